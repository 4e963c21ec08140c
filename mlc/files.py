"""Writing files so that a later stage never takes half of one for whole, and hashing them."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlc.errors import MlcError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a path beside ``path`` to write a file or folder to; it takes ``path``'s place on success only."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    try:
        yield aside
        if aside.is_dir() and path.exists():
            shutil.rmtree(path)
        aside.replace(path)
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Removes what killed processes have left beside ``path``: weights would fill the disk, one kill after another.

    Also of this process's own number, which a container gives to the next process as well.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        pid = left.name.split(".")[-2]
        if not pid.isdecimal() or (int(pid) != os.getpid() and _alive(int(pid))):
            continue
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def link_folder(folder: Path, target: Path) -> None:
    """Makes ``target`` a copy of a folder; its files are hard links where they can be, as weights are large."""
    with replacing(target) as aside:
        shutil.copytree(folder, aside, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
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


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_folder(folder: Path) -> dict[str, str]:
    """Relative path -> sha256 of every file below ``folder``, sorted."""
    return {p.relative_to(folder).as_posix(): sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def sha256_json(value: Any) -> str:
    """sha256 of a JSON value in its canonical form (sorted keys, no spaces)."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
