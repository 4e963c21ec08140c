"""The retraining job: one Prefect task per stage of dvc.yaml, in the order of DVC's own graph.

DVC decides what is up to date and each stage what it does; here is only what people need around that: live logs, states
with a reason, cancelling that leaves nothing running, and the results where the run is looked at. The project is the
working directory.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import PipelineStage
from prefect import State, flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed

from mlc.errors import MlcError
from mlc.files import read_json
from mlc.paths import ROLES, Paths
from mlc.report.words import interval, percent

GRACE = 10.0  # seconds between asking a stage to end and killing it
RATES = {"safe_rate": "safe rate", "over_refusal": "over-refusal", "fidelity": "language fidelity"}


def stages() -> list[str]:
    """The names of the stages in dvc.yaml, each after those it depends on.

    Raises:
        DvcException: there is no DVC project, or its dvc.yaml is broken.
    """
    with Repo() as repo:
        pipeline = [stage for stage in repo.index.stages if isinstance(stage, PipelineStage)]
        graph = {stage: [d for d in repo.index.graph[stage] if isinstance(d, PipelineStage)] for stage in pipeline}
        return [stage.addressing for stage in TopologicalSorter(graph).static_order()]


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
def _dvc(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Runs DVC in a process group of its own, which has ended when the block is left, however it is left."""
    # `mlc` and `python` in dvc.yaml are those of this environment, activated or not.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    process = subprocess.Popen(
        [sys.executable, "-m", "dvc", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        _end(process)


@task(cache_policy=NO_CACHE)
def run_stage(stage: str) -> State[Any]:
    """Runs one stage if DVC finds that it has to run. Failed says why in the stage's own last words."""
    logger = get_run_logger()
    name, last, error, epilogue = "Completed", "", "", False
    with _dvc("repro", "--single-item", stage) as process:
        assert process.stdout is not None
        for line in map(str.rstrip, process.stdout):
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
            elif line and not epilogue and line != f"Running stage '{stage}':":
                last = line
                logger.info(line)
        process.wait()
    if not process.returncode:
        return Completed(name=name)
    ran = re.search(r"failed to run: .*, exited with (-?\d+)$", error)
    reason = f"{last.removeprefix('mlc: ')} (exit code {ran[1]})" if ran else error or last
    logger.error(reason)
    return Failed(message=f"{stage}: {reason}")


def _table(paths: Paths) -> list[dict[str, str]]:
    metrics = {role: read_json(paths.evaluation(role) / "metrics.json", f"mlc evaluate {role}") for role in ROLES}
    rows = []
    for language in metrics["candidate"]["languages"]:
        row = {"language": language}
        for rate, words in RATES.items():
            for role in ROLES:
                estimate = metrics[role]["languages"].get(language, {}).get(rate)
                row[f"{words}, {role}"] = f"{percent(estimate['value'])} ({interval(estimate)})" if estimate else "–"
        rows.append(row)
    return rows


def outcome(paths: Paths) -> tuple[str, str]:
    """The name of a finished flow's state, and the verdict in words.

    Raises:
        MlcError: there is no verdict, or no record of the registration.
    """
    verdict = read_json(paths.verdict, "mlc gate")
    registration = read_json(paths.registration, "mlc register")
    version, champion = registration["version"], registration["champion"]
    now = f"The champion is version {champion}." if champion else "There is no champion."
    if registration["promoted"]:
        return "Promoted", f"Passed and registered as version {version}. It is the champion."
    if registration["registered"]:
        words = f"Passed and registered as version {version}, not promoted: {registration['reason']}. {now}"
        return "Registered", words
    failed = "".join(f"\n- {sentence}" for sentence in verdict["failed"])
    return "Refused", f"Not registered: {registration['reason']}. {now}{failed}"


@flow
def retrain() -> State[Any]:
    """Brings everything up to date, stage by stage, and shows the result. Stops at the first stage that fails."""
    try:
        for stage in stages():
            state: State[Any] = run_stage.with_options(name=stage, task_run_name=stage)(stage, return_state=True)
            if not state.is_completed():
                return Failed(message=state.message)
        paths = Paths()
        name, words = outcome(paths)
        create_table_artifact(table=_table(paths), key="languages", description="Rates with their intervals")
        create_markdown_artifact(f"# {name}\n{words}", key="verdict")
        create_link_artifact((paths.report / "index.html").resolve().as_uri(), key="report", link_text="The report")
    except (DvcException, MlcError) as error:
        return Failed(message=str(error))
    return Completed(name=name, message=words.splitlines()[0])


def _readable_logs() -> None:
    """Shows the stages' own lines, and of Prefect and the libraries only what needs attention."""
    handler = logging.StreamHandler(sys.stdout)
    layout = "%(asctime)s  %(task_run_name)-18s  %(message)s"
    handler.setFormatter(logging.Formatter(layout, "%H:%M:%S", defaults={"task_run_name": ""}))
    runs = ("prefect.flow_runs", "prefect.task_runs")
    handler.addFilter(
        lambda r: r.pathname == __file__ if r.name.startswith(runs) else r.levelno >= logging.WARNING  # their states
    )
    logging.getLogger().handlers = [handler]
    logging.getLogger("prefect").setLevel(logging.WARNING)
    for name in runs:
        logging.getLogger(name).setLevel(logging.INFO)


def main() -> int:
    """Runs the flow in this process and says how it ended; what `mlc run` does.

    Returns:
        0 when the candidate is registered, 3 when it was refused, 1 when a stage failed.
    """
    _readable_logs()
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Leaves in order, so that the stage's processes and Prefect's server end too; nohup stays nohup.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda received, _: sys.exit(128 + received))
    print("Starting Prefect", flush=True)
    state = retrain(return_state=True)
    if not state.is_completed():
        print(f"\nFailed     {state.message}")
        return 1
    paths = Paths()
    store = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow/mlflow.db")
    print(f"\n{state.name:<10} {outcome(paths)[1]}")
    print(f"Report     {paths.report / 'index.html'}")
    print(f"Registry   mlflow ui --backend-store-uri {store}")
    return 3 if state.name == "Refused" else 0
