"""Reading published files record by record. A malformed file is refused with the place of the mistake."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlc.errors import MlcError
from mlc.text import quoted

Format = Literal["json", "jsonl", "csv", "parquet", "hub"]


@dataclass(frozen=True)
class Source:
    """What to read: a file, a folder, or a data set of the hub."""

    location: str
    revision: str | None = None
    config: str | None = None
    split: str | None = None

    @property
    def path(self) -> Path:
        return Path(self.location)


@dataclass(frozen=True)
class Record:
    """One record of a source: where it stands, and its fields as published."""

    where: str
    fields: dict[str, Any]

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


def _decode(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte-order mark."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise MlcError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise MlcError(f"{path} is a folder: name the file in it") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise MlcError(f"{path}, line {line}: byte {error.start} is not UTF-8: save the file as UTF-8") from None


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"field {quoted(twice)} stands twice in one object")
    return fields


def _parse(text: str, path: Path, line: int | None = None) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_no_key_twice)
    except json.JSONDecodeError as error:
        raise MlcError(f"{path}, line {line or error.lineno}, column {error.colno}: not JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:
        raise MlcError(f"{path}{f', line {line}' if line else ''}: {error}") from None


def _record(where: str, value: Any) -> Record:
    if not isinstance(value, dict):
        raise MlcError(f"{where}: an object with named fields is needed, not {quoted(str(value))}")
    return Record(where, value)


def read_json(path: Path) -> Iterator[Record]:
    """The objects of a JSON list."""
    values = _parse(_decode(path), path)
    if not isinstance(values, list):
        raise MlcError(f"{path}: a JSON list of objects is needed (one object per line is JSON Lines, *.jsonl)")
    for number, value in enumerate(values, 1):
        yield _record(f"{path}, record {number}", value)


def read_jsonl(path: Path) -> Iterator[Record]:
    for number, line in enumerate(_decode(path).split("\n"), 1):
        if line.strip():
            yield _record(f"{path}, line {number}", _parse(line, path, number))


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
    readers = {"json": read_json, "jsonl": read_jsonl, "csv": read_csv, "parquet": read_parquet}
    return readers[form](source.path)
