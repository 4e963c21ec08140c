"""The files that stages hand on: written whole or not at all, read with an error that names the line, hashed."""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mlc.errors import MlcError
from mlc.text import visible

Row = TypeVar("Row", bound=BaseModel)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path to write a file or folder to; it takes ``path``'s place on success only.

    It is on the disk before it takes the place: after a power cut, ``path`` is the old one or the new one, and whole.
    Threads, processes and machines may write the same file at once; the last one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _workspace(path) as folder:
        aside = folder / path.name
        yield aside
        _flush(aside)
        if aside.is_dir() and path.exists():
            path.rename(folder / _BEFORE)  # a removal that is cut off would leave half of it in its place
        aside.replace(path)
        _flush_entry(path.parent)


_OWNER = ".owner"  # in a workspace: locked for as long as its writer lives
_BEFORE = ".before"  # in a workspace: the folder that was replaced


@contextmanager
def _workspace(path: Path) -> Iterator[Path]:
    """A folder of this writer's own beside ``path``; those of writers that were killed are removed first.

    A process number would not tell who is alive: threads share it, and so do processes of several containers or
    machines that write to one disk.
    """
    remove_abandoned(path.parent, path.name)  # weights would fill the disk, one kill after another
    owner = None
    while owner is None:  # another writer may take it for a dead one's before it is locked
        folder = Path(tempfile.mkdtemp(".partial", f".{path.name}.", path.parent))
        owner = _own(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(owner)


def remove_abandoned(folder: Path, name: str | None = None) -> None:
    """Removes from ``folder`` what writers that were killed left behind, of the file ``name`` or of all files."""
    for left in folder.glob(f".{'*' if name is None else glob.escape(name)}.*.partial"):
        if left.is_dir() and (owner := _own(left)) is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(owner)


def _own(folder: Path) -> int | None:
    """Locks a workspace, and returns the descriptor to close; None where somebody else has it, or it is gone."""
    try:
        descriptor = os.open(folder / _OWNER, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if os.fstat(descriptor).st_nlink == 0:  # removed between the two
        os.close(descriptor)
        return None
    return descriptor


def _flush(path: Path) -> None:
    """Waits until a file, or a folder with all that is in it, is on the disk."""
    for entry in [*path.rglob("*"), path] if path.is_dir() else [path]:
        if not entry.is_symlink():
            _flush_entry(entry)


def _flush_entry(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():  # some file systems do not sync folders
            raise
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Holds the lock of a file that is made for it, and stays; the system takes it back from a process that is killed.

    ``waiting`` is printed on stderr where another process holds it: this one then waits.
    """
    from filelock import FileLock, Timeout  # whose import takes longer than that of all the rest here

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(waiting, file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def link_folder(folder: Path, target: Path) -> None:
    """Makes ``target`` a copy of a folder; its files are hard links where they can be, as weights are large."""
    with replacing(target) as aside:
        shutil.copytree(folder, aside, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(os.path.realpath(source), target)  # the file, where DVC has left a symbolic link to its cache
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Strict JSON: a NaN raises instead of being written as something no reader understands."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with replacing(path) as aside, aside.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, made_by: str) -> dict[str, Any]:
    """Reads a JSON object; ``made_by`` is the command that makes the file, named when it is missing or broken."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MlcError(f"{path} does not exist: run `{made_by}` first") from None
    except ValueError as error:
        raise MlcError(f"{path} is not valid JSON ({error}): run `{made_by}` again") from None
    if not isinstance(value, dict):
        raise MlcError(f"{path} holds no JSON object: run `{made_by}` again")
    return value


class JsonPart(BaseModel):
    """A part of a ``JsonFile``: frozen, no unknown fields, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class JsonFile(JsonPart):
    """A JSON file that one command writes and others read.

    ``schema_version`` is that of the file, 0 for one from before versions were written. Fields that are not given are
    not written, so that what is read and written again is the same JSON.
    """

    VERSION: ClassVar[int] = 1

    schema_version: int

    @classmethod
    def read(cls, path: Path, made_by: str) -> Self:
        """Reads the file; ``made_by`` is the command that makes it.

        Raises:
            MlcError: it is missing or broken, lacks a field or has an unknown one (the first of them is named), or was
                written by a newer version of mlc.
        """
        content = read_json(path, made_by)
        version = content.setdefault("schema_version", 0)
        if isinstance(version, int) and version > cls.VERSION:
            raise MlcError(
                f"{path} has schema version {version}, and this mlc reads up to {cls.VERSION}: install the mlc that"
                " wrote it, or a newer one"
            )
        try:
            # By way of JSON, in whose strict mode a list may become a tuple but "true" never a truth value.
            return cls.model_validate_json(json.dumps(content))
        except ValidationError as error:
            raise MlcError(f"{path}{first_mistake(error)}: run `{made_by}` again") from None

    def content(self) -> dict[str, Any]:
        """As JSON has it."""
        fields = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        if self.schema_version == 0:
            del fields["schema_version"]
        return fields

    def write(self, path: Path) -> None:
        write_json(path, self.content())


def first_mistake(error: ValidationError) -> str:
    """Where the first mistake is, and what it is: ``, field prompts.sw: should be a valid string``."""
    first = error.errors()[0]
    field = visible(".".join(str(part) for part in first["loc"] if part != "[key]"))
    return f"{f', field {field}' if field else ''}: {first['msg'].removeprefix('Value error, ')}"


def read_rows(path: Path, kind: type[Row], missing: str) -> Iterator[tuple[int, Row]]:
    """Line number and row of a JSON Lines file, without holding it; blank lines are passed over.

    Args:
        missing: what to say, after the path, where there is no such file.

    Raises:
        MlcError: the file is missing, a line is not UTF-8 text, not JSON, or not a ``kind`` (with its number and
            field). What comes before the mistake has been handed out by then.
    """
    position = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, parsed_row(line, kind, path, number, position)
                position += len(line)
    except FileNotFoundError:
        raise MlcError(f"{path} {missing}") from None


def parsed_row(line: bytes, kind: type[Row], path: object, number: int, position: int = 0) -> Row:
    """One line of a JSON Lines file; ``position`` is the number of bytes before it. Raises what ``read_rows`` does."""
    try:
        return kind.model_validate_json(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise MlcError(f"{path} is not UTF-8 text (byte {position + error.start}): save it as UTF-8") from None
    except ValidationError as error:
        raise MlcError(f"{path}, line {number}{first_mistake(error)}") from None


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_folder(folder: Path) -> dict[str, str]:
    """Relative path -> sha256 of every file below ``folder``, sorted."""
    return {p.relative_to(folder).as_posix(): sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def sha256_json(value: Any) -> str:
    """sha256 of a JSON value in its canonical form (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What became of the files of a folder: ``changed: a, b``, ``missing: c``, ``added: d``; nothing if all are equal.

    Both are relative path -> sha256.
    """
    kinds = {
        "changed": sorted(name for name in then.keys() & now.keys() if then[name] != now[name]),
        "missing": sorted(then.keys() - now.keys()),
        "added": sorted(now.keys() - then.keys()),
    }
    return [f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names]
