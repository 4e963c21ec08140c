"""Errors that a person can act on: what is wrong, where, and what to do; and which faults are transient or the disk's.

The command line ends with ``TRANSIENT`` for transient faults (a server that is away, too slow or overloaded), as
sysexits.h has it, so that what started it knows that the same command may work later. A failed check or a user's
mistake is never transient.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator

TRANSIENT = 75  # EX_TEMPFAIL
_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}
_MLFLOW = {"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED"}
# Where a proxy answers in MLflow's place, only the message holds the status.
_MLFLOW_STATUS = re.compile(r"failed with error code (\d{3}) ")
# A failed download of several files holds what happened to each of them as text alone.
_MLFLOW_DOWNLOAD = re.compile(r"Connection (refused|aborted|reset)|(Connect|Read)Timeout(Error)?\b|IncompleteRead")


class MlcError(Exception):
    """Something the user can mend. The command line prints it as one line and exits with ``exit_code``."""

    exit_code = 2


class QualityError(MlcError):
    """The prompts are below the configured quality."""

    exit_code = 4


class IntegrityError(MlcError):
    """The registered files no longer match their recorded hashes."""

    exit_code = 7


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__  # also behind `from None`, which is about what people see


def _is_transient(error: BaseException) -> bool:
    import httpx
    import requests

    if type(error).__name__ == "OfflineModeIsEnabled":  # the hub's: a setting, though a ConnectionError by its class
        return False
    response = getattr(error, "response", None)
    if response is not None and (status := getattr(response, "status_code", None)) is not None:
        return status in _TRANSIENT_STATUS
    if "mlflow.exceptions" in sys.modules and isinstance(error, sys.modules["mlflow.exceptions"].MlflowException):
        status = _MLFLOW_STATUS.search(str(error))
        if status is not None and int(status[1]) in _TRANSIENT_STATUS:
            return True
        return error.error_code in _MLFLOW or _MLFLOW_DOWNLOAD.search(str(error)) is not None
    away = (ConnectionRefusedError, ConnectionResetError, TimeoutError)  # not BrokenPipeError: that is a closed screen
    theirs = (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,  # a server that went away amid its answer
        requests.exceptions.RetryError,
    )
    return isinstance(error, (*away, *theirs, httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError))


def is_transient(error: BaseException) -> bool:
    """May the same command work later? Looks at the error and at everything that it came from."""
    return any(map(_is_transient, _chain(error)))


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Libraries that write by themselves do not hand the system's error on: sqlite, safetensors, torch.
_FULL_WORDS = re.compile(r"No space left on device|database or disk is full|PytorchStreamWriter failed writing file")
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
_READ_ONLY_WORDS = re.compile("attempt to write a readonly database|Read-only file system")


def disk_full(error: BaseException) -> str | None:
    """In the system's words that the disk is full, or a quota or a file at its limit; None where it is not that."""
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return os.strerror(cause.errno)
        if _FULL_WORDS.search(str(cause)):
            return os.strerror(errno.ENOSPC)
    return None


def read_only(error: BaseException) -> str | None:
    """In the words of whoever met it first, that something cannot be written to; None where it is not that."""
    reason = None
    for cause in _chain(error):  # the innermost has no query and no address around it
        if (isinstance(cause, OSError) and cause.errno in _READ_ONLY) or _READ_ONLY_WORDS.search(str(cause)):
            reason = str(cause)
    return reason
