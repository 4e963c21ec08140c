"""Running the project's commands under Prefect: live logs, states with a reason, and nothing left behind.

A command runs in a process group of its own. The group ends with the task, however that ends; what outlives a killed
flow is found by the next one. The project is the working directory.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from dvc.repo import Repo
from dvc.stage import PipelineStage
from filelock import FileLock, Timeout
from prefect import State, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed

from mlc.errors import TRANSIENT, MlcError
from mlc.paths import Paths
from mlc.text import without_secrets

GRACE = 6.0  # seconds between asking a command to end and killing it
RETRY_DELAYS = [60.0, 300.0, 900.0]  # seconds; servers that are restarted or overloaded are back by then
AWAY = "Away"  # the state of a command that may work later
OWNER = "MLC_FLOW_PROJECT"  # in the environment of everything that a flow starts: the project's folder


def stages(before: str | None = None) -> list[str]:
    """The names of the stages in dvc.yaml, each after those it depends on; those that need not wait for ``before``.

    Raises:
        DvcException: there is no DVC project, or its dvc.yaml is broken.
    """
    with Repo() as repo:
        pipeline = [stage for stage in repo.index.stages if isinstance(stage, PipelineStage)]
        graph = {
            stage.addressing: [d.addressing for d in repo.index.graph[stage] if isinstance(d, PipelineStage)]
            for stage in pipeline
        }
    waiting = {before}
    names = list(TopologicalSorter(graph).static_order())
    for name in names:
        if waiting.intersection(graph[name]):
            waiting.add(name)
    return [name for name in names if name not in waiting]


@contextlib.contextmanager
def working() -> Iterator[None]:
    """Keeps other flows out of the project, and ends what a flow that was killed here has left running.

    Raises:
        MlcError: another flow works here.
    """
    path = Paths().root / ".cache" / "mlc" / "flow.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise MlcError(
            f"another retrain or audit works in {Path.cwd()}: wait until it has ended, or cancel it"
        ) from None
    try:
        _end_orphans()
        yield
    finally:
        lock.release()


def _end_orphans() -> None:
    """Whoever holds the project's lock is the only flow here: what another one has started is nobody's."""
    orphans = []
    for process in psutil.process_iter(["environ"]):
        if (process.info["environ"] or {}).get(OWNER) == str(Path.cwd()) and process.pid != os.getpid():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
                orphans.append(process)
    for process in psutil.wait_procs(orphans, timeout=GRACE)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def end_abandoned_runs() -> None:
    """Ends MLflow runs that killed processes left open; where MLflow is away, the next run does it."""
    from mlflow.exceptions import MlflowException

    from mlc import tracking

    logger = get_run_logger()
    try:
        for run_id in tracking.end_abandoned(Paths()):
            logger.warning("MLflow run %s was left open by a process that is gone: ended as KILLED", run_id)
    except (MlflowException, MlcError) as error:
        reason = without_secrets(str(tracking.explained(error)))
        logger.warning("MLflow could not be asked for runs that were left open: %s", reason)


def _alive(group: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


def _end(process: subprocess.Popen[str]) -> None:
    """Ends the process and everything it started: SIGTERM, so that they can put things in order, then SIGKILL."""
    try:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            deadline = time.monotonic() + GRACE
            while (process.poll() is None or _alive(process.pid)) and time.monotonic() < deadline:
                time.sleep(0.05)
    finally:  # also when a second Ctrl-C cuts the wait short
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def _group(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Runs a command in a process group of its own, which has ended when the block is left."""
    # `mlc` and `python` in dvc.yaml are those of this environment, activated or not.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", OWNER: str(Path.cwd())},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end(process)


class Ended(NamedTuple):
    """How a command ended: its exit code, and whether that was because its time was up."""

    code: int
    late: bool


def _follow(command: Sequence[str], hours: float | None, line: Callable[[str], None]) -> Ended:
    """Runs a command and hands on each line that it prints, until it ends or its hours have passed."""
    with _group(command) as process:
        late = threading.Event()

        def stop() -> None:
            late.set()
            _end(process)

        timer = threading.Timer(hours * 3600, stop) if hours is not None else None
        if timer:
            timer.start()
        try:
            assert process.stdout is not None
            for text in process.stdout:
                line(without_secrets(text.rstrip()))  # of DVC and libraries, too
            return Ended(process.wait(), late.is_set())
        finally:
            if timer:
                timer.cancel()


# What DVC says of an output that holds nothing, such as the answers where no tasks are named.
EMPTY = re.compile(r"WARNING: '.*' is empty\.")


class Words:
    """The last words of a command: its last line, or the whole of what ``mlc`` says went wrong, whatever follows."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._error = False

    def add(self, line: str) -> None:
        if line.startswith("mlc: "):
            self._error, self._lines = True, []
        elif not self._error:
            self._lines = []
        self._lines.append(line)

    @property
    def last(self) -> str:
        return self._lines[-1] if self._lines else ""

    def reason(self, code: int | str) -> str:
        """With the exit code behind the first line, so that a command at the end of the last can be copied."""
        first, *rest = self._lines or [""]
        return "\n".join([f"{first.removeprefix('mlc: ')} (exit code {code})", *rest])


def _failed(name: str, reason: str, hours: float | None, late: bool, transient: bool) -> State[Any]:
    logger = get_run_logger()
    end_abandoned_runs()
    if late:
        reason = f"stopped: it had not ended after {hours:g} hours"
    logger.error(reason)
    state = "TimedOut" if late else AWAY if transient else "Failed"
    return Failed(name=state, message=f"{name}: {reason}")


def _may_work_later(_task: Any, _run: Any, state: State[Any]) -> bool:
    return state.name == AWAY


_retried = task(
    cache_policy=NO_CACHE,
    retries=len(RETRY_DELAYS),
    retry_delay_seconds=RETRY_DELAYS,
    retry_condition_fn=_may_work_later,
)


@_retried
def run_stage(stage: str, hours: float | None = None) -> State[Any]:
    """Runs one stage if DVC finds that it has to run, and ends it after ``hours``.

    Failed says why in the stage's own last words, TimedOut that its time was up, Away that a server was not there or
    overloaded; only then it is tried again.
    """
    logger = get_run_logger()
    name, words, error, epilogue = "Completed", Words(), "", False

    def read(line: str) -> None:
        nonlocal name, error, epilogue
        if line.startswith("ERROR: "):
            error = line.removeprefix("ERROR: ")
        elif line == f"Stage '{stage}' didn't change, skipping":
            name, epilogue = "Cached", True
            logger.info("up to date")
        elif line == f"Stage '{stage}' is cached - skipping run, checking out outputs":
            name, epilogue = "Cached", True
            logger.info("done before with the same inputs: outputs restored")
        elif re.fullmatch(r"(Generating|Updating) lock file 'dvc.lock'", line):
            epilogue = True  # what DVC says from here on is about git
        elif line and not epilogue and line != f"Running stage '{stage}':" and not EMPTY.fullmatch(line):
            words.add(line)
            logger.info(line)

    ended = _follow([sys.executable, "-m", "dvc", "repro", "--single-item", stage], hours, read)
    if not ended.code:
        return Completed(name=name)
    ran = re.search(r"failed to run: .*, exited with (-?\d+)$", error)
    reason = words.reason(ran[1]) if ran else error or words.last
    return _failed(stage, reason, hours, ended.late, transient=ran is not None and int(ran[1]) == TRANSIENT)


def run_stages(names: Sequence[str], hours: Mapping[str, float]) -> State[Any] | None:
    """Runs these stages; the state of the one that failed, if so.

    Raises:
        MlcError: ``hours`` names a stage that is none of them.
    """
    if unknown := sorted(hours.keys() - set(names)):
        raise MlcError(f"the flow's parameter hours holds {unknown[0]}, which is none of its stages")
    for stage in names:
        options = run_stage.with_options(name=stage, task_run_name=stage)
        state: State[Any] = options(stage, hours.get(stage), return_state=True)
        if not state.is_completed():
            return state
    return None


@_retried
def run_command(*arguments: str, allowed: tuple[int, ...] = (0,), hours: float | None = None) -> State[Any]:
    """Runs ``mlc`` with these arguments. States are ``run_stage``'s; exit codes in ``allowed`` are no failure."""
    logger = get_run_logger()
    words = Words()

    def read(line: str) -> None:
        if line:
            words.add(line)
            logger.info(line)

    ended = _follow([str(Path(sys.executable).with_name("mlc")), *arguments], hours, read)
    if not ended.late and ended.code in allowed:
        return Completed()
    return _failed(arguments[0], words.reason(ended.code), hours, ended.late, transient=ended.code == TRANSIENT)
