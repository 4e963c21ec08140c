"""The flow on small but real DVC projects: order, what is skipped, failures, cancelling, and how runs end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import records
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL

from flows import retrain, stages
from mlc.files import write_json
from mlc.paths import Paths
from mlc.settings import load_settings
from mlc.text import markdown

ROOT = Path(__file__).parents[2]
DVC_YAML = """\
stages:
  verdict:   # written before what it depends on: the order is the graph's
    cmd: python verdict.py
    deps: [verdict.py, artifacts/evaluation]
    outs: [artifacts/gate, {artifacts/registration.json: {cache: false, persist: true}}]
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
    metrics = {{"schema_version": 1, "languages": {{"sw": rates}}, "served": {{}}, "transfer": {{}}}}
    (folder / "metrics.json").write_text(json.dumps(metrics))
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
MODEL = {"model": "mlc-embedded"}
PROMOTED = {**MODEL, "registered": True, "promoted": True, "reason": None, "version": "2", "champion": "2"}
REFUSED = {**MODEL, "registered": False, "promoted": False, "reason": "unsafe", "version": None, "champion": None}


def _verdict(verdict: dict[str, Any], registration: dict[str, Any]) -> str:
    return f"""\
import json, pathlib
pathlib.Path("artifacts/gate").mkdir(parents=True)
pathlib.Path("artifacts/gate/verdict.json").write_text(json.dumps({records.verdict(**verdict)}))
pathlib.Path("artifacts/registration.json").write_text(json.dumps({records.registration(**registration)}))
"""


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tracking store that these projects share: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


def _registry(champion: str | None) -> None:
    """Two versions of the model that the records name."""
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    with contextlib.suppress(MlflowException):
        client.delete_registered_model("mlc-embedded")
    client.create_registered_model("mlc-embedded")
    for _ in range(2):
        client.create_model_version("mlc-embedded", source="file:///nowhere", tags={"manifest": records.HASH})
    if champion:
        client.set_registered_model_alias("mlc-embedded", "champion", champion)


@pytest.fixture
def project(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC project of three stages, and the working directory."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True)
    (tmp_path / ".dvc" / "config").write_text("[core]\nanalytics = false\nsite_cache_dir = .site-cache\n")
    (tmp_path / "dvc.yaml").write_text(DVC_YAML, encoding="utf-8")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "source").write_text("1")
    (tmp_path / "measure.py").write_text(MEASURE)
    (tmp_path / "verdict.py").write_text(_verdict({"passed": True, "failed": []}, PROMOTED))
    _registry(champion="2")
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

    (project / "source").write_text("2")
    (project / "artifacts" / "registration.json").unlink()
    assert _tasks(_run()) == [("prepare", "Completed"), ("measure", "Completed"), ("verdict", "Completed")]


@pytest.mark.slow
def test_a_registry_that_is_another_is_registered_in_again(project: Path) -> None:
    """DVC looks at files, and would skip the stage; this one tells of a champion that there is not."""
    assert _run().name == "Promoted"
    _registry(champion=None)
    state = _run()
    assert state.is_failed() and state.message is not None
    assert "registration.json is not what the registry holds (champion was version 2, and is nowhere)" in state.message
    once = [("prepare", "Cached"), ("measure", "Cached"), ("verdict", "Completed")]
    assert _tasks(state) == [*once, *once]
    (project / "verdict.py").write_text(
        _verdict({"passed": True, "failed": []}, {**PROMOTED, "promoted": False, "champion": None, "reason": "a tie"})
    )
    assert _run().name == "Registered"
    assert _run().name == "Unchanged"


def test_where_nothing_has_changed_no_stage_is_started(project: Path) -> None:
    _registry(champion=None)
    (project / "verdict.py").write_text(_verdict({"passed": False, "failed": ["unsafe in Swahili"]}, REFUSED))
    assert _run().name == "Refused"
    again = _run()
    assert (again.name, _tasks(again)) == ("Unchanged", [])
    assert again.message is not None and "Not registered: unsafe. There is no champion." in again.message

    (project / "source").write_text("2")
    assert not retrain.unchanged(load_settings(Paths().params), Paths())


@pytest.mark.slow
def test_what_a_server_does_to_a_stage_is_tried_again(project: Path) -> None:
    (project / "prepared").write_text("1")
    run = stages.run_stage.with_options(retries=1, retry_delay_seconds=0.0)
    count = "import pathlib\nwith pathlib.Path('tries').open('a') as f:\n    f.write('.')\n"
    away = "raise SystemExit(print('mlc: the server is away') or 75)\n"
    (project / "measure.py").write_text(f"{count}if pathlib.Path('tries').read_text() == '.':\n    {away}{MEASURE}")
    assert run("measure", return_state=True).is_completed()
    assert (project / "tries").read_text() == ".."

    (project / "measure.py").write_text(count + away)
    state: State[Any] = run("measure", return_state=True)
    assert (state.name, state.message) == ("Away", "measure: the server is away (exit code 75)")
    assert (project / "tries").read_text() == "...."

    (project / "measure.py").write_text(f"{count}raise SystemExit('mlc: a mistake')\n")
    assert run("measure", return_state=True).name == "Failed"
    assert (project / "tries").read_text() == "....."


@pytest.mark.slow
def test_a_stage_that_hangs_is_ended(project: Path) -> None:
    (project / "measure.py").write_text(SLEEPS.format(stubborn=False))
    # Long enough for DVC to start it, in hours.
    state: State[Any] = retrain.retrain(hours={"measure": 5 / 3600}, return_state=True)
    assert state.name == "TimedOut"
    assert state.message is not None and state.message.startswith("measure: stopped: it had not ended after")
    assert _gone([int(pid) for pid in (project / "pids").read_text().split()], within=5)


@pytest.mark.usefixtures("project")
def test_what_need_not_wait_for_a_stage_comes_without_it_and_what_follows() -> None:
    assert stages.stages(before="verdict") == ["prepare", "measure"]
    assert stages.stages(before="measure") == ["prepare"]


@pytest.mark.usefixtures("project")
def test_an_hour_limit_for_no_stage_is_a_mistake() -> None:
    state: State[Any] = retrain.retrain(hours={"tain": 1.0}, return_state=True)
    assert state.message == "the flow's parameter hours holds tain, which is none of its stages"


def test_two_runs_in_one_project_do_not_meet(project: Path) -> None:
    with stages.working():
        state = _run()
    assert state.is_failed() and state.message is not None
    assert f"another retrain or audit works in {project}" in state.message
    with stages.working():  # the one that was turned away holds nothing
        pass


@pytest.mark.slow
def test_what_a_killed_flow_left_running_is_ended_by_the_next(project: Path) -> None:
    (project / "measure.py").write_text(SLEEPS.format(stubborn=False))
    code = "import sys; from flows.retrain import main; sys.exit(main())"
    environment = {**os.environ, "PREFECT_API_URL": str(PREFECT_API_URL.value())}
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as process:
        try:
            _wait_for(project / "pids")
        finally:
            process.kill()
    left = [int(pid) for pid in (project / "pids").read_text().split()]
    assert all(psutil.pid_exists(pid) for pid in left)
    (project / "measure.py").write_text(MEASURE)
    assert _run().name == "Promoted"
    assert _gone(left, within=0.1)


def test_results_are_shown_where_the_run_is(project: Path) -> None:
    state = _run()
    with get_client(sync_client=True) as client:
        run_artifacts = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[state.state_details.flow_run_id]))
        )
    artifacts = {artifact.key: str(artifact.data) for artifact in run_artifacts}
    row = json.loads(artifacts["languages"])[0]
    assert row["language"] == "sw"
    assert row["safe rate, candidate"] == "75.0% (50.0–90.0%)"
    assert artifacts["verdict"].startswith("# Promoted\nPassed")
    assert (project / "artifacts" / "report" / "index.html").as_uri() in artifacts["report"]


def test_a_failing_stage_fails_the_flow_with_its_own_last_words(project: Path) -> None:
    (project / "measure.py").write_text("raise SystemExit('mlc: 3 % of Swahili is in quarantine: see the report')")
    state = _run()
    assert state.is_failed()
    assert state.message == "measure: 3 % of Swahili is in quarantine: see the report (exit code 1)"
    assert _tasks(state) == [("prepare", "Completed"), ("measure", "Failed")]


def test_a_reason_of_several_lines_is_told_whole(project: Path) -> None:
    said = "mlc: below the quality asked for: look at x\\n  sw, lost: 3 of 9: `mlc quarantine list`\\n"
    (project / "measure.py").write_text(
        f"import sys\nprint('checking', flush=True)\nsys.stderr.write('{said}')\nsys.exit(4)"
    )
    assert _run().message == (
        "measure: below the quality asked for: look at x (exit code 4)\n  sw, lost: 3 of 9: `mlc quarantine list`"
    )


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
            {**MODEL, "registered": True, "promoted": False, "reason": "a tie", "version": "3", "champion": "2"},
            "Registered",
            "Passed and registered as version 3, not promoted: a tie. The champion is version 2.",
        ),
        (
            {"passed": True, "failed": []},
            {**PROMOTED, "promoted": False, "waiting": True, "reason": "waiting", "version": "3"},
            "Waiting",
            'Passed and registered as version 3, which waits for approval: `mlc registry approve 3 --why "..."` '
            "promotes it, `mlc registry reject 3 ...` does not. The champion is version 2.",
        ),
        (
            {"passed": False, "failed": ["safe rate in Swahili: 31 %", "too few prompts"]},
            {**REFUSED, "reason": "2 rules failed"},
            "Refused",
            "Not registered: 2 rules failed. There is no champion.\n- safe rate in Swahili: 31 %\n- too few prompts",
        ),
    ],
)
def test_how_a_run_ends(
    tmp_path: Path, verdict: dict[str, Any], registration: dict[str, Any], name: str, words: str
) -> None:
    paths = Paths(tmp_path)
    write_json(paths.verdict, records.verdict(**verdict))
    write_json(paths.registration, records.registration(**registration))
    assert retrain.outcome(paths) == (name, words)


def test_a_reason_is_no_markup_on_the_runs_page(tmp_path: Path) -> None:
    paths = Paths(tmp_path)
    write_json(paths.verdict, records.verdict())
    reason = "rejected by Ann on 2026-01-01: <img src=x> [here](http://example.org)"
    write_json(paths.registration, records.registration(**{**REFUSED, "reason": reason}))
    assert reason in retrain.outcome(paths)[1]
    assert "<img" not in retrain.outcome(paths, markdown)[1] and "[here](" not in retrain.outcome(paths, markdown)[1]


@pytest.mark.slow
@pytest.mark.parametrize("stubborn", [False, True])
def test_cancelling_ends_everything_that_the_stage_started(
    project: Path, monkeypatch: pytest.MonkeyPatch, stubborn: bool
) -> None:
    monkeypatch.setattr(stages, "GRACE", 1.0)
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


@pytest.mark.slow
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
