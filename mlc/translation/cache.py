"""What was ever translated, so that nothing is translated twice: not after a kill, nor for another prompt set."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from mlc.errors import MlcError, disk_full
from mlc.files import sha256_json
from mlc.translation import Request, Translator

_ROOM = 1 << 17  # bytes that sqlite needs at once, for its shared index of 32 KiB and a few pages
_TABLE = """
create table if not exists translations (
    key text primary key, translation text not null,
    text text not null, source text not null, target text not null,
    translator text not null, version text not null, at text not null
) strict
"""


def _no_room(error: sqlite3.DatabaseError, path: Path) -> bool:
    """Whether the disk is full, which sqlite also calls an I/O error: the cache is then as good as it was."""
    return disk_full(error) is not None or (
        isinstance(error, sqlite3.OperationalError) and shutil.disk_usage(path.parent).free < _ROOM
    )


class Cache:
    """A SQLite file of finished translations, by the hash of text, languages, translator and version.

    A translation that was put in is kept through any kill of the process, and through a power cut. Several processes
    may share the file.
    """

    def __init__(self, path: Path, translator: Translator) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._who = (translator.name, translator.version)
        try:
            self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._connection.execute("pragma journal_mode = wal")
            self._connection.execute("pragma synchronous = full")
            self._connection.execute(_TABLE)
        except sqlite3.DatabaseError as error:
            if _no_room(error, path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
            raise MlcError(f"{path} is no translation cache ({error}): move it away, or name another") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._connection.close()

    def _key(self, request: Request) -> str:
        return sha256_json([*request, *self._who])

    def get(self, requests: Iterable[Request]) -> dict[Request, str]:
        """The translations of those requests that were translated before."""
        translations = {}
        for request in requests:
            row = self._connection.execute("select translation from translations where key = ?", [self._key(request)])
            for (translation,) in row:
                translations[request] = translation
        return translations

    def put(self, request: Request, translation: str) -> None:
        """Keeps a translation, at once; the first one of a request stays.

        Raises:
            MlcError: it cannot be written.
            OSError: the disk is full; what the cache holds is safe.
        """
        line = (self._key(request), translation, *request, *self._who, datetime.now(UTC).isoformat(timespec="seconds"))
        try:
            self._connection.execute("insert or ignore into translations values (?, ?, ?, ?, ?, ?, ?, ?)", line)
        except sqlite3.OperationalError as error:  # a full disk, or another process that does not let go
            if _no_room(error, self._path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path)) from error
            raise MlcError(f"{self._path}: {error}; what it holds is safe, run the same command again") from None
