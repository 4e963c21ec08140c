"""Faults in a real project: commands run in forked children, are killed at a chosen instant, and leave a project behind
that one function checks.

A child has all imports of this process already, so a command costs what it does and not what it loads. This process
itself never opens MLflow's store and never computes: what it holds is copied into every child.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

SEED = int(os.environ.get("MLC_FAULTS_SEED", "7"))
SHARE = float(os.environ.get("MLC_FAULTS_SHARE", "1"))  # of the kills, to try a few
CLEARED = ("PREFECT_", "MLFLOW_TRACKING", "MLFLOW_EXPERIMENT", "GIT_")
LIMIT = 300.0  # seconds that a command may take; one that hangs is a violation

Before = Callable[[], None]  # run in the child before the command: what injects a fault


class Ended(NamedTuple):
    """How a command ended: its exit code (negative: the signal), and both streams."""

    code: int
    output: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    @property
    def explained(self) -> bool:
        """One line of mlc's own that is no internal error, and no stack trace."""
        lines = [line for line in self.output.strip().splitlines() if line.startswith("mlc: ")]
        return len(lines) == 1 and "mlc: unexpected" not in self.output and "Traceback" not in self.output


class Running:
    """A child process of ours."""

    def __init__(self, pid: int, output: Path) -> None:
        self.pid, self.output = pid, output

    def kill(self) -> None:
        """kill -9 of the whole group: git and whatever else it started go with it. Nothing, where it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self, limit: float = LIMIT) -> Ended:
        end = time.monotonic() + limit
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return Ended(os.waitstatus_to_exitcode(status), self.output.read_text(errors="replace"))
            if time.monotonic() > end:
                self.kill()
                os.waitpid(self.pid, 0)
                return Ended(124, f"hangs: stopped after {limit:g} s\n{self.output.read_text(errors='replace')}")
            time.sleep(0.005)


def fork(work: Callable[[], int], output: Path, cwd: Path, env: dict[str, str] | None = None) -> Running:
    """Runs ``work`` in a child with a process group of its own; its result is the exit code."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # in both, as either may be first
        return Running(pid, output)
    code = 70
    try:
        os.setpgid(0, 0)
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 (pytest has taken the old ones)
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        os.chdir(cwd)
        for name in [name for name in os.environ if name.startswith(CLEARED)]:
            del os.environ[name]
        os.environ |= env or {}
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _command(arguments: Sequence[str], before: Before | None, imports: Path | None) -> int:
    from mlc.cli import main

    known = set(sys.modules)
    sys.argv = ["mlc", *arguments]
    if before:
        before()
    try:
        main()
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 0 if left.code is None else 1
    finally:
        if imports:
            imports.write_text("\n".join(name for name in sys.modules if name not in known))
    return 0


def effects(root: Path, act: Callable[[int, str], None]) -> Before:
    """Calls ``act`` with number and name before everything that the command does to the world from Python: a file
    opened for writing, renamed, linked or removed in the project, a folder made, a call to MLflow."""

    def install() -> None:
        from mlflow import MlflowClient

        count, inside = 0, False
        folder = f"{root}{os.sep}"

        def happened(what: str) -> None:
            nonlocal count, inside
            if not inside:
                inside = True
                act(count, what)
                count += 1
                inside = False

        def audited(event: str, arguments: tuple[Any, ...]) -> None:
            path = arguments[0] if arguments else None
            if event == "open":
                if not isinstance(path, str) or not arguments[2] & (os.O_WRONLY | os.O_RDWR):
                    return
            elif event not in ("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir", "os.truncate"):
                return
            if event == "os.mkdir" and os.path.exists(path):  # noqa: PTH110
                return
            if isinstance(path, str | os.PathLike) and os.path.abspath(path).startswith(folder):  # noqa: PTH100
                happened(f"{event} {Path(path).name}")

        def watched(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                happened(f"MLflow {name}")
                return method(*arguments, **named)

            return call

        for name, method in inspect.getmembers(MlflowClient, inspect.isfunction):
            if not name.startswith("_"):
                setattr(MlflowClient, name, watched(name, method))
        sys.addaudithook(audited)

    return install


def _write(file: int, line: str) -> None:
    os.write(file, f"{line}\n".encode())


class Project:
    """A project on a fixed path, as MLflow's store holds absolute ones; ``keep`` and ``restore`` copy all of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "project"
        self.kept = folder / "kept"
        self.good: set[str] = set()  # manifests whose gate passed: kept apart from what a fault can reach
        self.times: dict[tuple[str, ...], float] = {}
        self._outputs = 0

    def keep(self, name: str) -> None:
        shutil.copytree(self.root, self.kept / name, symlinks=True)

    def restore(self, name: str) -> None:
        if self.root.is_mount():
            for path in self.root.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        else:
            shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.kept / name, self.root, symlinks=True, dirs_exist_ok=True)

    def start(self, *arguments: str, before: Before | None = None, env: dict[str, str] | None = None) -> Running:
        self._outputs += 1
        output = self.folder / f"output-{self._outputs}.txt"
        return fork(lambda: _command(arguments, before, None), output, self.root, env)

    def mlc(self, *arguments: str, before: Before | None = None, env: dict[str, str] | None = None) -> Ended:
        """Runs a command to its end, or to the fault that ``before`` has prepared."""
        return self.start(*arguments, before=before, env=env).wait()

    def done(self, *arguments: str, env: dict[str, str] | None = None) -> Ended:
        """Runs a command that has to succeed; remembers how long it took, and imports what it has imported."""
        imports = self.folder / "imports.txt"
        start = time.monotonic()
        ended = fork(lambda: _command(arguments, None, imports), self.folder / "output.txt", self.root, env).wait()
        self.times[arguments] = time.monotonic() - start
        assert ended.code == 0, f"mlc {' '.join(arguments)}: {ended.code}\n{ended.output}"
        for name in imports.read_text().split():
            with contextlib.suppress(Exception):  # some only exist where another has put them
                importlib.import_module(name)
        assert threading.active_count() == 1, threading.enumerate()
        return ended

    def count(self, *arguments: str) -> list[str]:
        """The effects of a command, by name, in their order."""
        log = self.folder / "effects.txt"
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        start = time.monotonic()
        ended = self.mlc(*arguments, before=effects(self.root, lambda _number, what: _write(file, what)))
        self.times[arguments] = time.monotonic() - start
        os.close(file)
        assert ended.code == 0, f"mlc {' '.join(arguments)}: {ended.code}\n{ended.output}"
        return log.read_text().splitlines()

    def killed_before(self, effect: int, *arguments: str) -> Ended:
        """kill -9 right before the effect of this number."""

        def act(number: int, _what: str) -> None:
            if number == effect:
                os.kill(os.getpid(), signal.SIGKILL)

        return self.mlc(*arguments, before=effects(self.root, act))

    def killed_after(self, seconds: float, *arguments: str, env: dict[str, str] | None = None) -> Ended:
        """kill -9 of the command's process group after a time; it may have ended by then."""
        running = self.start(*arguments, env=env)
        time.sleep(seconds)
        running.kill()
        return running.wait()

    def inspect(self, question: Callable[[Path], Any], env: dict[str, str] | None = None) -> Any:
        """The answer, as JSON, of a function that is asked in a child, for it opens the store."""
        answer = self.folder / "answer.json"

        def work() -> int:
            answer.write_text(json.dumps(question(self.root)))
            return 0

        answer.unlink(missing_ok=True)
        ended = fork(work, self.folder / "inspect.txt", self.root, env).wait()
        assert ended.code == 0, ended.output
        return json.loads(answer.read_text())
