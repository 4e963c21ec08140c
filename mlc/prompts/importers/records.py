"""Reading published files record by record. A malformed file is refused with the place of the mistake."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlc.errors import MlcError
from mlc.prompts.importers.json_values import json_values
from mlc.prompts.schema import Intent
from mlc.text import quoted

Format = Literal["json", "jsonl", "csv", "parquet", "hub"]
GZIP, PARQUET = b"\x1f\x8b", b"PAR1"  # how such files begin
_HEAD = 4096  # bytes that show what a file is
_SUFFIXES = (".json", ".jsonl", ".csv", ".parquet", ".gz")


@dataclass(frozen=True)
class Source:
    """What to read: a file, a folder, or a data set of the hub, and what is said of it beside its layout."""

    location: str
    revision: str | None = None
    config: str | None = None
    split: str | None = None
    language: str = "en"  # source language: that of all texts whose language the layout does not name
    intent: Intent | None = None  # of all requests, where the layout says nothing of it

    @property
    def path(self) -> Path:
        return Path(self.location)


@dataclass(frozen=True)
class Record:
    """One record of a source: where it stands, and its fields as published."""

    where: str
    fields: dict[str, Any]

    def place(self, name: str) -> str:
        """Where texts such as those of a field stand, whatever the record: ``pairs.jsonl, field 'chosen'``."""
        return f"{self.where.rpartition(', ')[0]}, field {quoted(name)}"

    def need(self, *names: str) -> None:
        missing = [name for name in names if name not in self.fields]
        if missing:
            has = ", ".join(quoted(name) for name in self.fields) or "none"
            raise MlcError(f"{self.where}: no field {', '.join(missing)}; its fields are {has}")

    def text(self, name: str) -> str | None:
        """The text of a field, None where it is absent, null or blank.

        Raises:
            MlcError: it is not a text, or holds a lone surrogate, which no UTF-8 file can.
        """
        value = self.fields.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise MlcError(f"{self.where}, field {quoted(name)}: a text is needed, not {quoted(str(value))}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise MlcError(
                f"{self.where}, field {quoted(name)}: character {error.start + 1} is half of a surrogate pair "
                f"(U+{ord(value[error.start]):04X}), which is no text: mend the source"
            ) from None
        return value if value.strip() else None

    def label(self, name: str) -> str | None:
        """The text of a field that may also be a whole number or true or false: ids and labels."""
        value = self.fields.get(name)
        return json.dumps(value) if isinstance(value, int) else self.text(name)


def _bytes(path: Path) -> bytes:
    """The content of a file, unpacked where it is gzipped."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(GZIP) else content
    except FileNotFoundError:
        raise MlcError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise MlcError(f"{path} is a folder: name the file in it") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise MlcError(f"{path} is not a whole gzip file ({error}): download it again") from None


def _decode(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte-order mark."""
    content = _bytes(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise MlcError(f"{path}, line {line}: byte {error.start} is not UTF-8: save the file as UTF-8") from None


def _record(where: str, value: Any) -> Record:
    if not isinstance(value, dict):
        raise MlcError(f"{where}: an object with named fields is needed, not {quoted(str(value))}")
    return Record(where, value)


def read_json(path: Path) -> Iterator[Record]:
    """The objects of a JSON list, of JSON Lines, or of a file where they merely follow each other."""
    for where, value in json_values(_decode(path), path):
        yield _record(where, value)


def read_csv(path: Path) -> Iterator[Record]:
    """The lines of a CSV file with a header; cells are text, whatever they look like."""
    csv.field_size_limit(2**31 - 1)  # the default refuses prompts of more than 128 kB
    reader = csv.reader(io.StringIO(_decode(path), newline=""), strict=True)
    line = 1
    try:
        header = next(reader, [])
        if not header:
            raise MlcError(f"{path}: the first line has to name the columns")
        if len(set(header)) < len(header):
            twice = next(name for name in header if header.count(name) > 1)
            raise MlcError(f"{path}, line 1: column {quoted(twice)} stands twice")
        line = reader.line_num + 1
        for cells in reader:
            if cells and len(cells) != len(header):
                raise MlcError(f"{path}, line {line}: {len(cells)} cells, but the header names {len(header)} columns")
            if cells:
                yield Record(f"{path}, line {line}", dict(zip(header, cells, strict=True)))
            line = reader.line_num + 1
    except csv.Error as error:
        raise MlcError(f"{path}, the record that begins in line {line}: not CSV ({error})") from None


def read_parquet(path: Path) -> Iterator[Record]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        file = ParquetFile(path)
        number = 0
        for batch in file.iter_batches():
            for fields in batch.to_pylist():
                number += 1
                yield Record(f"{path}, row {number}", fields)
    except FileNotFoundError:
        raise MlcError(f"{path} does not exist") from None
    except (pyarrow.ArrowException, OSError) as error:
        raise MlcError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from None


def read_hub(source: Source) -> Iterator[Record]:
    """Streams a split of a data set of the hub at its pinned revision, or of a local folder that ``datasets`` loads.

    Raises:
        MlcError: a hub set without its commit, or the set, configuration or split cannot be had.
    """
    if source.split is None:
        raise MlcError(f"{source.location}: which split? Name it with --split")
    if not source.path.is_dir() and not re.fullmatch("[0-9a-f]{40}", source.revision or ""):
        raise MlcError(
            f"{source.location} is no file or folder here; a data set of the hub needs --revision, its commit "
            "(40 hexadecimal digits: a branch or tag can move)"
        )
    from datasets import DownloadConfig, load_dataset
    from datasets.exceptions import DatasetsError
    from httpx import HTTPError
    from huggingface_hub.errors import HfHubHTTPError

    # A local folder has no revision to load; the one given is only kept with its rows.
    revision = None if source.path.is_dir() else source.revision
    try:
        stream = load_dataset(
            source.location,
            source.config,
            split=source.split,
            revision=revision,
            streaming=True,
            download_config=DownloadConfig(max_retries=3),
        )
        for number, fields in enumerate(stream, 1):
            yield Record(f"{source.location}, split {source.split}, row {number}", fields)
    except (DatasetsError, HfHubHTTPError, HTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise MlcError(f"{source.location}, split {source.split} could not be read: {reason}") from None


def read(source: Source, form: Format) -> Iterator[Record]:
    if form == "hub":
        return read_hub(source)
    readers = {"json": read_json, "jsonl": read_json, "csv": read_csv, "parquet": read_parquet}
    return readers[form](source.path)


def read_any(source: Source) -> Iterator[Record]:
    """Reads a file by its content, whatever its name; what is no file is a data set of the hub, or a folder of one.

    Raises:
        MlcError: the content is none of JSON, JSON Lines, CSV and Parquet, or malformed.
    """
    if not source.path.is_file():
        if source.path.suffix.lower() in _SUFFIXES and not source.path.is_dir():
            raise MlcError(f"{source.path} does not exist")
        return read_hub(source)
    begins = _head(source.path)
    if begins.startswith(PARQUET.decode()):
        return read_parquet(source.path)
    if begins.startswith(("[", "{")):
        return read_json(source.path)
    if not begins:
        raise MlcError(f"{source.path} is empty")
    if "," in begins.partition("\n")[0]:
        return read_csv(source.path)
    raise MlcError(
        f"{source.path} is neither JSON, JSON Lines, CSV with a header nor Parquet: it begins "
        f"{quoted(begins, longest=40)}"
    )


def _head(path: Path) -> str:
    """How the text of a file begins, without what is blank; of a large file no more than that is read."""
    with path.open("rb") as file:
        start = file.read(_HEAD)
    if start.startswith(PARQUET):
        return PARQUET.decode()
    if start.startswith(GZIP):
        with suppress(EOFError, zlib.error, gzip.BadGzipFile), gzip.open(path) as unpacked:
            start = unpacked.read(_HEAD)
    try:
        begins = codecs.getincrementaldecoder("utf-8-sig")().decode(start).lstrip()
    except UnicodeDecodeError:
        begins = ""
    return begins or _decode(path).lstrip()  # which also says where it is malformed
