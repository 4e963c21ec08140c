"""The jobs as a team runs them: a Prefect server, a worker and the deployments of prefect.yaml, on loopback.

The tests follow each other in one project: a schedule makes version 1, what is cancelled or killed goes on in the next.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling
from ruamel.yaml import YAML
from test_notify import RECEIVED, block  # noqa: F401 - a fixture
from test_pipeline import project, run  # noqa: F401 - a fixture

from mlc import tracking
from mlc.paths import Paths
from mlc.registry.model import RegisteredModel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
ROOT = Path(__file__).parents[2]
PREFECT = [str(Path(sys.executable).with_name("prefect")), "--no-prompt"]
STEPS = 150  # of the training that is cancelled: long enough to be met at work
RETRAIN, AUDIT = "retrain/weekly", "audit/audit"


def _set(project: Path, change: Callable[[Any], None]) -> None:  # noqa: F811
    """Changes params.yaml by a function, and commits it with dvc.lock."""
    yaml = YAML()
    params = yaml.load(project / "params.yaml")
    change(params)
    yaml.dump(params, project / "params.yaml")
    run(project, "git", "add", "-A")
    run(project, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "parameters")


def _passes(params: Any) -> None:
    """A gate that random weights pass, on two languages."""
    params["languages"] = {"source": "en", "served": ["en", "zh"], "transfer": []}
    params["evaluate"]["max_new_tokens"] = 4
    params["gate"]["rules"] = [
        {"metric": "safe_rate", "at_least": 0.0},
        {"metric": "over_refusal", "at_most": 1.0},
        {"metric": "invalid", "at_most": 1.0},
        {"metric": "perplexity_ratio", "at_most": 100.0},
    ]
    params["gate"]["unsafe_settings"] = [
        "max_new_tokens", "minimum_prompts", "safe_rate", "over_refusal", "invalid", "perplexity_ratio"
    ]  # fmt: skip


def _answers(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while True:
        try:
            if httpx.get(f"{url}/health", timeout=5).is_success:
                return
        except httpx.HTTPError:
            pass
        assert process.poll() is None and time.monotonic() < deadline, "the Prefect server did not start"
        time.sleep(0.2)


@pytest.fixture(scope="module", autouse=True)
def _prefect(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:  # noqa: F811
    """A server with a home of its own, prefect.yaml's deployments, and a worker in the project's folder."""
    shutil.copy(ROOT / "prefect.yaml", project)
    _set(project, _passes)
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_TRACKING", "GIT_"))}
    # The code that runs is the project's, whatever happens to this repository's meanwhile.
    env = {**clean, "PREFECT_HOME": str(home), "PREFECT_API_URL": url, "PYTHONPATH": str(project)}
    env["PWD"] = str(project)  # a shell sets it, and prefect.yaml takes the folder from it

    def prefect(*arguments: str) -> None:
        done = subprocess.run([*PREFECT, *arguments], cwd=project, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"

    def start(log: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (home / log).open("wb") as file:
            return subprocess.Popen([*PREFECT, *arguments], cwd=project, env=env, stdout=file, stderr=file)

    processes = [start("server.log", "server", "start", "--host", "127.0.0.1", "--port", str(port))]
    try:
        _answers(url, processes[0])
        prefect("work-pool", "create", "mlc", "--type", "process")
        prefect("deploy", "--all")
        with temporary_settings({PREFECT_API_URL: url}):
            with get_client(sync_client=True) as client:  # before anything runs, as it would run elsewhere
                steps = client.read_deployment_by_name(RETRAIN).pull_steps
            assert steps == [{"prefect.deployments.steps.set_working_directory": {"directory": str(project)}}]
            processes.append(start("worker.log", "worker", "start", "--pool", "mlc"))
            yield
    finally:
        for process in reversed(processes):
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


@pytest.fixture(scope="module")
def client(_prefect: None) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as client:
        yield client


def _start(client: SyncPrefectClient, deployment: str, **parameters: Any) -> UUID:
    job = client.read_deployment_by_name(deployment)
    return client.create_flow_run_from_deployment(job.id, parameters=parameters).id


def _log(client: SyncPrefectClient, run_id: UUID) -> list[str]:
    lines: list[str] = []
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]))
    while page := client.read_logs(wanted, limit=200, offset=len(lines)):
        lines += [entry.message for entry in page]
    return lines


def _wait(client: SyncPrefectClient, run_id: UUID, name: str, seconds: float = 900) -> FlowRun:
    """Waits for a run's state of this name; another one in which it stays is a failure."""
    deadline = time.monotonic() + seconds
    while True:
        flow_run = client.read_flow_run(run_id)
        if flow_run.state is not None and flow_run.state.name == name:
            return flow_run
        if (flow_run.state is not None and flow_run.state.is_final()) or time.monotonic() > deadline:
            log = "\n".join(_log(client, run_id))
            pytest.fail(f"{flow_run.state_name} instead of {name}: {flow_run.state and flow_run.state.message}\n{log}")
        time.sleep(0.2)


def _at_work(project: Path, *arguments: str, seconds: float = 600) -> psutil.Process:  # noqa: F811
    """The process of the project whose command line ends with these words, without folders, once it is there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for process in psutil.process_iter(["cmdline", "cwd"]):
            line = tuple(Path(word).name for word in process.info["cmdline"] or ())
            if process.info["cwd"] == str(project) and line[-len(arguments) :] == arguments:
                return process
        time.sleep(0.1)
    pytest.fail(f"{arguments} did not start")


def _group(leader: int) -> list[int]:
    """The processes of a group that have not ended."""
    left = []
    for process in psutil.process_iter(["status"]):
        try:
            if os.getpgid(process.pid) == leader and process.info["status"] != psutil.STATUS_ZOMBIE:
                left.append(process.pid)
        except ProcessLookupError:
            pass
    return left


def _checkpoint(project: Path) -> int:  # noqa: F811
    """The step of the last checkpoint that is whole; 0 where there is none."""
    state_files = (project / "artifacts" / "checkpoints").glob("checkpoint-*/trainer_state.json")
    return max((int(state.parent.name.removeprefix("checkpoint-")) for state in state_files), default=0)


def _statuses(project: Path) -> list[str]:  # noqa: F811
    """How the project's MLflow runs stand."""
    paths = Paths(project)
    runs = tracking.client(paths).search_runs([tracking.experiment(paths)])
    return sorted(entry.info.status for entry in runs)


def _aliases(project: Path, model: str) -> Mapping[str, str]:  # noqa: F811
    return RegisteredModel(Paths(project), model).aliases()


def test_a_schedule_fires_by_itself_and_its_run_promotes(project: Path, client: SyncPrefectClient) -> None:  # noqa: F811
    job = client.read_deployment_by_name(RETRAIN)
    assert [schedule.schedule.cron for schedule in job.schedules] == ["0 3 * * 0"]  # type: ignore[union-attr]
    soon = datetime.now(UTC) + timedelta(seconds=60)  # the scheduler looks every few
    daily = IntervalSchedule(interval=timedelta(days=1), anchor_date=soon)
    (schedule,) = client.create_deployment_schedules(job.id, [(daily, True)])
    mine = DeploymentFilter(id=DeploymentFilterId(any_=[job.id]))
    due: list[FlowRun] = []
    while not due:
        assert datetime.now(UTC) < soon + timedelta(seconds=120), "nothing was scheduled"
        flow_runs = client.read_flow_runs(deployment_filter=mine)
        due = [
            r for r in flow_runs if r.expected_start_time and abs(r.expected_start_time - soon) < timedelta(seconds=1)
        ]
        time.sleep(0.5)
    assert due[0].auto_scheduled
    ended = _wait(client, due[0].id, "Promoted")
    client.delete_deployment_schedule(job.id, schedule.id)
    assert ended.start_time is not None and ended.start_time >= soon - timedelta(seconds=1)
    assert ended.state is not None and ended.state.message == "Passed and registered as version 1. It is the champion."
    assert _aliases(project, "mlc-embedded")["champion"] == "1"
    assert _statuses(project) == ["FINISHED"]


def test_the_audit_after_it_passes(project: Path, client: SyncPrefectClient) -> None:  # noqa: F811
    ended = _wait(client, _start(client, AUDIT), "Passed")
    assert ended.state is not None and ended.state.message == "Champion version 1 of mlc-embedded still passes."
    (version,) = RegisteredModel(Paths(project), "mlc-embedded").versions()
    assert version.tags["audit"] == "passed"


def test_cancelled_in_training_it_ends_at_once_and_the_next_run_goes_on(
    project: Path,  # noqa: F811
    client: SyncPrefectClient,
) -> None:
    _set(project, lambda params: params["train"].update(seed=1, max_steps=STEPS, save_steps=5))
    cancelled = _start(client, RETRAIN)
    training = _at_work(project, "mlc", "train")
    group = os.getpgid(training.pid)
    while not _checkpoint(project):
        assert training.is_running(), "the training ended before it was cancelled"
        time.sleep(0.05)
    assert group == os.getpgid(_at_work(project, "--single-item", "train").pid)
    start = time.monotonic()
    client.set_flow_run_state(cancelled, Cancelling())
    while _group(group) and time.monotonic() < start + 30:
        time.sleep(0.1)
    took = time.monotonic() - start
    step = _checkpoint(project)
    print(f"\ncancelled after checkpoint {step} of {STEPS}: the group of the training had ended after {took:.1f} s")
    assert took < 10 and 0 < step < STEPS
    _wait(client, cancelled, "Cancelled", seconds=120)
    assert "RUNNING" not in _statuses(project) and "KILLED" in _statuses(project)

    again = _start(client, RETRAIN)
    _wait(client, again, "Registered")  # no better than the champion
    assert f"going on from artifacts/checkpoints/checkpoint-{step}" in _log(client, again)
    assert _aliases(project, "mlc-embedded")["champion"] == "1"
    assert "RUNNING" not in _statuses(project)


def test_a_run_waits_for_approval_and_goes_on_with_the_answer(project: Path, client: SyncPrefectClient) -> None:  # noqa: F811
    _set(project, lambda params: params["register"].update(model_name="approved", approval="required"))
    asking = _start(client, RETRAIN)
    _wait(client, asking, "Paused")
    assert "champion" not in _aliases(project, "approved")
    client.resume_flow_run(asking, {"approve": True, "who": "Asha", "why": "read the report"})
    ended = _wait(client, asking, "Promoted", seconds=300)
    assert ended.state is not None and ended.state.message == "Passed and registered as version 1. It is the champion."
    assert _aliases(project, "approved")["champion"] == "1"
    decisions = [(entry["who"], entry["why"]) for entry in RegisteredModel(Paths(project), "approved").ledger()]
    assert ("Asha", "read the report") in decisions


def test_killed_it_is_crashed_and_told_and_the_next_run_completes(
    project: Path,  # noqa: F811
    client: SyncPrefectClient,
    block: str,  # noqa: F811
) -> None:
    _set(project, lambda params: params["train"].update(seed=2))
    RECEIVED.clear()
    killed = _start(client, RETRAIN, notify=block)
    stage = _at_work(project, "--single-item", "train")
    training = _at_work(project, "mlc", "train")
    while "RUNNING" not in _statuses(project):
        assert training.is_running(), "the training ended before the flow was killed"
        time.sleep(0.1)
    os.kill(stage.ppid(), signal.SIGKILL)
    _wait(client, killed, "Crashed", seconds=120)
    deadline = time.monotonic() + 60
    while not RECEIVED:
        assert time.monotonic() < deadline, "nobody was told"
        time.sleep(0.2)
    (message,) = RECEIVED
    assert message["subject"] == "retrain: Crashed"

    _wait(client, _start(client, RETRAIN), "Registered")
    assert not training.is_running()
    assert "RUNNING" not in _statuses(project)  # KILLED by the next run, or FAILED when its pipe broke
