"""Any other translation system: a program that reads requests and writes translations, as JSON lines.

It gets lines ``{"id", "text", "source", "target"}`` on its standard input, and writes ``{"id", "translation"}`` or
``{"id", "error"}`` to its standard output, in any order, each as soon as it has it.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from mlc.errors import MlcError
from mlc.translation import Request, Result

_GRACE = 5.0  # seconds a program has to end after its last answer, or after being asked to


class CommandTranslator:
    """A translator that is a program of the user's.

    Args:
        command: the program and its arguments; quoted as for a shell, but no shell runs it.
        version: what the user calls this state of the program; another version is translated anew.
        name: what provenance calls it; the program's file name by default.
        timeout: seconds without a line from it, after which it is taken for stuck.
    """

    def __init__(self, command: str, version: str, name: str | None = None, timeout: float = 600.0) -> None:
        try:
            self._arguments = shlex.split(command)
        except ValueError as error:
            raise MlcError(f"--run {command}: {error}") from None
        if not self._arguments or shutil.which(self._arguments[0]) is None:
            raise MlcError(f"--run {command}: there is no such program")
        self.name = name or Path(self._arguments[0]).name
        self.version, self.licence = version, None  # only its user knows
        self._timeout = timeout

    def check(self, pairs: set[tuple[str, str]]) -> None:
        """Nothing: the program says so itself, per text."""

    def translate(self, requests: Sequence[Request]) -> Iterator[Result]:
        waiting = {str(i): request for i, request in enumerate(requests)}
        lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        with tempfile.TemporaryFile() as errors:
            # A group of its own, so that what it starts ends with it, and Ctrl-C reaches it through here alone.
            program = subprocess.Popen(
                self._arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
            assert program.stdin is not None and program.stdout is not None
            ask = threading.Thread(target=_ask, args=(program.stdin, dict(waiting)), daemon=True)
            hear = threading.Thread(target=_hear, args=(program.stdout, lines), daemon=True)
            unreadable: list[str] = []
            try:
                ask.start()
                hear.start()
                why = None
                while waiting and why is None:
                    try:
                        line = lines.get(timeout=self._timeout)
                    except queue.Empty:
                        why = f"no line from the command for {self._timeout:g} s"
                        break
                    if line is None:
                        break
                    result = _answer(line, waiting)
                    if result is None:
                        unreadable.append(line[:80].decode("utf-8", "replace").strip())
                    else:
                        yield result
                if waiting:
                    why = why or self._ending(program, errors)
                    if unreadable:
                        why += f"; {len(unreadable)} lines that answer nothing, such as {unreadable[0]!r}"
                    for request in waiting.values():
                        yield Result(request, failure=why)
                else:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        program.wait(_GRACE)
            finally:
                _end(program)

    def _ending(self, program: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
        try:
            code = program.wait(_GRACE)
        except subprocess.TimeoutExpired:
            return "the command closed its output without an answer"
        if code == 0:
            return "the command ended without an answer"
        errors.seek(0)
        message = errors.read().decode("utf-8", "replace").strip().rsplit("\n", 1)[-1]
        return f"the command ended with exit code {code}" + (f": {message[:200]}" if message else "")


def _ask(pipe: IO[bytes], requests: dict[str, Request]) -> None:
    with contextlib.suppress(BrokenPipeError), pipe:
        for key, (text, source, target) in requests.items():
            line = {"id": key, "text": text, "source": source, "target": target}
            pipe.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            pipe.flush()


def _hear(pipe: IO[bytes], lines: queue.SimpleQueue[bytes | None]) -> None:
    with pipe:
        for line in pipe:
            if line.strip():
                lines.put(line)
    lines.put(None)


def _answer(line: bytes, waiting: dict[str, Request]) -> Result | None:
    """The result that a line holds, whose request is taken off ``waiting``; none if it answers no open request."""
    try:
        answer: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(answer, dict) or not isinstance(answer.get("id"), str) or answer["id"] not in waiting:
        return None
    translation, error = answer.get("translation"), answer.get("error")
    request = waiting.pop(answer["id"])
    if isinstance(translation, str) and error is None:
        return Result(request, translation)
    return Result(request, failure=f"error: {error}" if error else "an answer without a translation")


def _end(program: subprocess.Popen[bytes]) -> None:
    """Ends the program and whatever it started."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(program.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(_GRACE)
            break
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(program.pid, signal.SIGKILL)
