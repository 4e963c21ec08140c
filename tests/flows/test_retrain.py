"""The flow on small but real DVC projects: order, what is skipped, failures, cancelling, and how runs end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

from flows import retrain
from mlc.paths import Paths

DVC_YAML = """\
stages:
  verdict:   # written before what it depends on: the order is the graph's
    cmd: python verdict.py
    deps: [verdict.py, artifacts/evaluation]
    outs: [artifacts/gate, artifacts/registration.json]
  prepare:
    cmd: python -c "print('préparé'); open('prepared', 'w').write(open('source').read())"
    deps: [source]
    outs: [prepared]
  measure:
    cmd: python measure.py
    deps: [measure.py, prepared]
    outs: [artifacts/evaluation]
"""
ESTIMATE = {"n": 4, "value": 0.75, "low": 0.5, "high": 0.9}
MEASURE = f"""\
import json, pathlib
for role in ("base", "candidate"):
    folder = pathlib.Path("artifacts/evaluation", role)
    folder.mkdir(parents=True)
    rates = {{"safe_rate": {ESTIMATE}, "over_refusal": {ESTIMATE}, "fidelity": {ESTIMATE}}}
    (folder / "metrics.json").write_text(json.dumps({{"languages": {{"sw": rates}}, "served": {{}}}}))
"""
SLEEPS = """\
import os, pathlib, signal, subprocess, time
if {stubborn}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "300"])
pathlib.Path("pids.partial").write_text(f"{{os.getpid()}} {{child.pid}}")
os.rename("pids.partial", "pids")
time.sleep(300)
"""
PROMOTED = {"registered": True, "promoted": True, "reason": None, "version": "2", "champion": "2"}


def _verdict(verdict: dict[str, Any], registration: dict[str, Any]) -> str:
    return f"""\
import json, pathlib
pathlib.Path("artifacts/gate").mkdir(parents=True)
pathlib.Path("artifacts/gate/verdict.json").write_text(json.dumps({verdict}))
pathlib.Path("artifacts/registration.json").write_text(json.dumps({registration}))
"""


@pytest.fixture(scope="session", autouse=True)
def _prefect() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC project of three stages, and the working directory."""
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True)
    (tmp_path / ".dvc" / "config").write_text("[core]\nanalytics = false\nsite_cache_dir = .site-cache\n")
    (tmp_path / "dvc.yaml").write_text(DVC_YAML, encoding="utf-8")
    (tmp_path / "source").write_text("1")
    (tmp_path / "measure.py").write_text(MEASURE)
    (tmp_path / "verdict.py").write_text(_verdict({"passed": True, "failed": []}, PROMOTED))
    return tmp_path


def _run() -> State[Any]:
    state: State[Any] = retrain.retrain(return_state=True)
    return state


def _tasks(state: State[Any]) -> list[tuple[str, str]]:
    """Name and state of each stage's task, in the order in which they ran."""
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
        )
    runs.sort(key=lambda run: str(run.start_time))
    return [(run.name, str(run.state_name)) for run in runs]


def _gone(pids: list[int], within: float) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if not any(_running(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_for(path: Path, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.05)


def test_stages_run_in_order_and_only_when_they_have_to(project: Path) -> None:
    first = _run()
    assert (first.name, first.message) == ("Promoted", "Passed and registered as version 2. It is the champion.")
    assert _tasks(first) == [("prepare", "Completed"), ("measure", "Completed"), ("verdict", "Completed")]

    assert _tasks(_run()) == [("prepare", "Cached"), ("measure", "Cached"), ("verdict", "Cached")]

    (project / "source").write_text("2")
    (project / "artifacts" / "registration.json").unlink()
    assert _tasks(_run()) == [("prepare", "Completed"), ("measure", "Completed"), ("verdict", "Cached")]


def test_results_are_shown_where_the_run_is(project: Path) -> None:
    state = _run()
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]))
        )
    artifacts = {artifact.key: str(artifact.data) for artifact in found}
    row = json.loads(artifacts["languages"])[0]
    assert row["language"] == "sw"
    assert row["safe rate, candidate"].replace("\N{NO-BREAK SPACE}", " ") == "75.0 % (50.0–90.0 %)"
    assert artifacts["verdict"].startswith("# Promoted\nPassed")
    assert (project / "artifacts" / "report" / "index.html").as_uri() in artifacts["report"]


def test_a_failing_stage_fails_the_flow_with_its_own_last_words(project: Path) -> None:
    (project / "measure.py").write_text("raise SystemExit('mlc: 3 % of Swahili is in quarantine: see the report')")
    state = _run()
    assert state.is_failed()
    assert state.message == "measure: 3 % of Swahili is in quarantine: see the report (exit code 1)"
    assert _tasks(state) == [("prepare", "Completed"), ("measure", "Failed")]


def test_missing_data_is_named(project: Path) -> None:
    (project / "source").unlink()
    state = _run()
    assert state.is_failed()
    assert state.message is not None and "source" in state.message


def test_a_broken_dvc_yaml_is_a_sentence(project: Path) -> None:
    (project / "dvc.yaml").write_text("stages: 3\n")
    state = _run()
    assert state.is_failed()
    assert state.message is not None and "dvc.yaml" in state.message


@pytest.mark.parametrize(
    ("verdict", "registration", "name", "words"),
    [
        (
            {"passed": True, "failed": []},
            {"registered": True, "promoted": False, "reason": "a tie", "version": "3", "champion": "2"},
            "Registered",
            "Passed and registered as version 3, not promoted: a tie. The champion is version 2.",
        ),
        (
            {"passed": False, "failed": ["safe rate in Swahili: 31 %", "too few prompts"]},
            {"registered": False, "promoted": False, "reason": "2 rules failed", "version": None, "champion": None},
            "Refused",
            "Not registered: 2 rules failed. There is no champion.\n- safe rate in Swahili: 31 %\n- too few prompts",
        ),
    ],
)
def test_how_a_run_ends(
    project: Path, verdict: dict[str, Any], registration: dict[str, Any], name: str, words: str
) -> None:
    (project / "verdict.py").write_text(_verdict(verdict, registration))
    assert _run().name == name
    assert retrain.outcome(Paths()) == (name, words)


@pytest.mark.parametrize("stubborn", [False, True])
def test_cancelling_ends_everything_that_the_stage_started(
    project: Path, monkeypatch: pytest.MonkeyPatch, stubborn: bool
) -> None:
    monkeypatch.setattr(retrain, "GRACE", 1.0)
    (project / "measure.py").write_text(SLEEPS.format(stubborn=stubborn))

    def cancel() -> None:
        _wait_for(project / "pids")
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=cancel).start()
    # A shell starts its background jobs with SIGINT ignored, and Python leaves it at that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            _run()
    finally:
        signal.signal(signal.SIGINT, before)
    assert _gone([int(pid) for pid in (project / "pids").read_text().split()], within=5)

    (project / "measure.py").write_text(MEASURE)
    assert _run().name == "Promoted"  # nothing of the cancelled run is in the way, no lock either


def test_sigterm_leaves_nothing_running(project: Path) -> None:
    (project / "measure.py").write_text(SLEEPS.format(stubborn=False))
    code = "import sys; from flows.retrain import main; sys.exit(main())"
    environment = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as process:
        try:
            _wait_for(project / "pids")
            process.terminate()
            assert process.wait(timeout=60) == 128 + signal.SIGTERM
            assert _gone([int(pid) for pid in (project / "pids").read_text().split()], within=10)
        finally:
            process.terminate()
