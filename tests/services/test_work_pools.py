"""The GPU's work on a pool of its own: templates and deployments in a real Prefect server, and workers on loopback."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import records
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from team_server import BIN, free_port, wait_for

pytestmark = [pytest.mark.services, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parents[2]
GPU, CPU = "candidate/weekly", "retrain/weekly"
DVC_YAML = """\
stages:
  train:
    cmd: python train.py
    deps: [train.py]
    outs: [artifacts/evaluation]
  diagnose:
    cmd: python -c "import os; os.makedirs('artifacts/diagnostics')"
    deps: [artifacts/evaluation]
    outs: [artifacts/diagnostics]
  gate:
    cmd: python gate.py
    deps: [gate.py, artifacts/evaluation]
    outs: [artifacts/gate, {artifacts/registration.json: {cache: false, persist: true}}]
"""
TRAIN = """\
import json, pathlib
rate = {"n": 4, "value": 0.75, "low": 0.5, "high": 0.9}
for role in ("base", "candidate"):
    folder = pathlib.Path("artifacts/evaluation", role)
    folder.mkdir(parents=True)
    rates = {"safe_rate": rate, "over_refusal": rate, "fidelity": rate}
    (folder / "metrics.json").write_text(json.dumps(
        {"schema_version": 1, "languages": {"sw": rates}, "served": {}, "transfer": {}}
    ))
"""
REFUSED = records.registration(model="mlc-embedded", reason="unsafe")
GATE = f"""\
import json, pathlib
pathlib.Path("artifacts/gate").mkdir(parents=True)
pathlib.Path("artifacts/gate/verdict.json").write_text(json.dumps({records.verdict()}))
pathlib.Path("artifacts/registration.json").write_text(json.dumps({REFUSED}))
"""


class Prefect:
    """A server, and the project from which ``prefect`` is called."""

    def __init__(self, project: Path, home: Path) -> None:
        port = free_port()
        self.project, self.home, self.url = project, home, f"http://127.0.0.1:{port}/api"
        cleared = ("PREFECT_", "MLFLOW_", "GIT_")
        self.env = {key: value for key, value in os.environ.items() if not key.startswith(cleared)}
        self.env |= {"PREFECT_HOME": str(home), "PREFECT_API_URL": self.url, "PWD": str(project)}
        self.env |= {"PATH": f"{BIN}{os.pathsep}{self.env['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.processes: list[subprocess.Popen[bytes]] = []
        self.start("server", "start", "--host", "127.0.0.1", "--port", str(port))
        wait_for(f"{self.url}/health", self.processes[0], home / "server.log", 180)

    def start(self, *arguments: str) -> None:
        with (self.home / f"{arguments[0]}.log").open("ab") as log:
            command = [str(BIN / "prefect"), "--no-prompt", *arguments]
            self.processes.append(
                subprocess.Popen(command, cwd=self.project, env=self.env, stdout=log, stderr=subprocess.STDOUT)
            )

    def __call__(self, *arguments: str) -> str:
        command = [str(BIN / "prefect"), "--no-prompt", *arguments]
        done = subprocess.run(command, cwd=self.project, env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def stop(self, keep: int = 0) -> None:
        """Ends what was started last first, but for the first ``keep``."""
        while len(self.processes) > keep:
            process = self.processes.pop()
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DVC project of three stages with the flows and recipes of this repository."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("flows", "recipes"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "prefect.yaml"):
        shutil.copy(ROOT / name, folder)
    for name, text in {"dvc.yaml": DVC_YAML, "train.py": TRAIN, "gate.py": GATE}.items():
        (folder / name).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    subprocess.run([BIN / "dvc", "init", "--quiet"], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def prefect(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A server with the pool ``mlc``."""
    running = Prefect(project, tmp_path_factory.mktemp("prefect"))
    try:
        running("work-pool", "create", "mlc", "--type", "process")
        yield running
    finally:
        running.stop()


@pytest.fixture
def client(prefect: Prefect) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: prefect.url}), get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def pool(prefect: Prefect) -> Iterator[Callable[..., None]]:
    """Makes the pool ``mlc-gpu`` and the deployments on it."""

    def make(*arguments: str) -> None:
        prefect("work-pool", "create", "mlc-gpu", *arguments)
        prefect("deploy", "--all")
        prefect("deploy", "--all", "--prefect-file", "recipes/prefect/gpu.yaml")

    yield make
    prefect.stop(keep=1)  # the workers: one whose pool is gone may not end
    prefect("work-pool", "delete", "mlc-gpu")


def _job(client: SyncPrefectClient, configuration: Any) -> Any:
    """What the worker of the pool would start for the deployment."""
    deployment = client.read_deployment_by_name(GPU)
    assert deployment.work_pool_name == "mlc-gpu"
    template = client.read_work_pool("mlc-gpu").base_job_template
    return asyncio.run(configuration.from_template_and_values(template, deployment.job_variables | {"gpus": 2}))


def test_kubernetes_gets_a_job_with_gpus_and_the_project(
    pool: Callable[..., None], client: SyncPrefectClient, project: Path
) -> None:
    worker = pytest.importorskip("prefect_kubernetes.worker", reason="pip install -e .[workers]")
    pool("--type", "kubernetes", "--base-job-template", "recipes/prefect/kubernetes.json")
    pod = _job(client, worker.KubernetesWorkerJobConfiguration).job_manifest["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == "mlc:0.1.0"
    assert container["resources"]["limits"] == {"memory": "64Gi", "nvidia.com/gpu": 2}
    assert {"name": "project", "mountPath": str(project)} in container["volumeMounts"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert pod["securityContext"]["runAsUser"] == 1000


def test_docker_gets_a_container_with_gpus_and_the_project(
    pool: Callable[..., None], client: SyncPrefectClient, project: Path
) -> None:
    worker = pytest.importorskip("prefect_docker.worker", reason="pip install -e .[workers]")
    docker = pytest.importorskip("docker")
    pool("--type", "docker", "--base-job-template", "recipes/prefect/docker.json")
    job = _job(client, worker.DockerWorkerJobConfiguration)
    assert (job.image, job.volumes) == ("mlc:0.1.0", [f"{project}:{project}"])
    assert job.env["PYTHONPATH"] == str(project)
    more = dict(job.container_create_kwargs)
    assert more.pop("user") == "1000:1000"
    # As the docker library would send it.
    (gpus,) = docker.types.HostConfig(version="1.44", **more)["DeviceRequests"]
    assert (gpus["Driver"], gpus["Count"], gpus["Capabilities"]) == ("nvidia", 2, [["gpu"]])


def _ended(client: SyncPrefectClient, name: str, seconds: float = 300) -> FlowRun:
    """The only run of a deployment, once it has ended; scheduled ones are in the future."""
    wanted = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[client.read_deployment_by_name(name).id]))
    end = time.monotonic() + seconds
    while True:
        ended = [run for run in client.read_flow_runs(flow_run_filter=wanted) if run.state and run.state.is_final()]
        if ended:
            (run,) = ended
            return run
        assert time.monotonic() < end, f"{name} has not ended"
        time.sleep(0.5)


def test_what_the_gpu_has_made_is_gated_on_the_other_pool(
    prefect: Prefect, pool: Callable[..., None], client: SyncPrefectClient, project: Path
) -> None:
    pool("--type", "process")
    # prefect.yaml's would train on its own pool.
    active = {n: [s.active for s in client.read_deployment_by_name(n).schedules] for n in (CPU, GPU)}
    assert active == {CPU: [False], GPU: [True]}
    for name in ("mlc", "mlc-gpu"):
        prefect.start("worker", "start", "--pool", name, "--name", name)
    client.create_flow_run_from_deployment(client.read_deployment_by_name(GPU).id)
    gpu_run = _ended(client, GPU)
    assert gpu_run.state_name == "Completed", gpu_run.state
    assert (project / "artifacts/diagnostics").exists()
    trained = (project / "artifacts/evaluation/base/metrics.json").stat().st_mtime_ns
    # Nobody starts this one: the candidate's end does.
    gated = _ended(client, CPU)
    assert gated.state_name == "Refused", gated.state
    assert (project / "artifacts/gate/verdict.json").exists()
    assert (project / "artifacts/evaluation/base/metrics.json").stat().st_mtime_ns == trained
