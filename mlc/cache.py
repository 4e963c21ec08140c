"""What endpoints and translators ever answered, so that nothing is asked or paid for twice: not after a kill."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from mlc.errors import MlcError, disk_full

_ROOM = 1 << 17  # bytes that sqlite needs at once, for its shared index of 32 KiB and a few pages


def _no_room(error: sqlite3.DatabaseError, path: Path) -> bool:
    """Whether the disk is full, which sqlite also calls an I/O error: the cache is then as good as it was."""
    return disk_full(error) is not None or (
        isinstance(error, sqlite3.OperationalError) and shutil.disk_usage(path.parent).free < _ROOM
    )


class AnswerCache:
    """A SQLite file of finished answers by key.

    An answer that was put in is kept through any kill of the process, and through a power cut. Several processes may
    share the file.

    Args:
        kind: what it holds, such as ``translation``: its table and the column of the answers are called so.
        about: columns that say what an answer is about, for people who look into the file.
    """

    def __init__(self, path: Path, kind: str, about: Sequence[str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._kind = path, kind
        columns = ["key text primary key", *(f"{name} text not null" for name in (kind, *about, "at"))]
        self._put = f"insert or ignore into {kind}s values ({', '.join('?' * len(columns))})"
        try:
            self._connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            self._connection.execute("pragma journal_mode = wal")
            self._connection.execute("pragma synchronous = full")
            self._connection.execute(f"create table if not exists {kind}s ({', '.join(columns)}) strict")
        except sqlite3.DatabaseError as error:
            if _no_room(error, path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
            raise MlcError(f"{path} is no {kind} cache ({error}): move it away, or name another") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._connection.close()

    def get(self, keys: Iterable[str]) -> dict[str, str]:
        """The answers that are there."""
        answers = {}
        for key in keys:
            row = self._connection.execute(f"select {self._kind} from {self._kind}s where key = ?", [key])
            for (answer,) in row:
                answers[key] = answer
        return answers

    def put(self, key: str, answer: str, about: Sequence[str]) -> None:
        """Keeps an answer, at once; the first one under a key stays.

        Raises:
            MlcError: it cannot be written.
            OSError: the disk is full; what the cache holds is safe.
        """
        try:
            self._connection.execute(self._put, (key, answer, *about, datetime.now(UTC).isoformat(timespec="seconds")))
        except sqlite3.OperationalError as error:  # a full disk, or another process that does not let go
            if _no_room(error, self._path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path)) from error
            raise MlcError(f"{self._path}: {error}; what it holds is safe, run the same command again") from None
