"""Runs in a real store: they always end, and end as what happened."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from mlc import tracking
from mlc.cli import main
from mlc.errors import MlcError
from mlc.paths import Paths


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    return Paths(tmp_path_factory.mktemp("project"))


@pytest.fixture(autouse=True)
def _default_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)


def test_the_store_lies_in_the_project_and_artifacts_beside_it(paths: Paths, tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text("step,loss\n")
    with tracking.run(paths, "train", params={"seed": 0, "lora.r": None}, tags={"kind": "test"}) as run_id:
        for step in range(3):
            tracking.log_metrics(paths, run_id, {"loss": 1.0 / (step + 1)}, step)
        tracking.log_artifact(paths, run_id, file, "training")
        tracking.log_artifacts(paths, run_id, tmp_path)
    client = tracking.client(paths)
    run = client.get_run(run_id)
    assert client.get_experiment(run.info.experiment_id).name == "mlc"
    assert (run.info.status, run.info.run_name) == ("FINISHED", "train")
    assert run.data.params == {"seed": "0", "lora.r": "None"}
    assert run.data.tags["kind"] == "test"
    assert [m.step for m in client.get_metric_history(run_id, "loss")] == [0, 1, 2]
    assert (paths.root / "mlflow" / "mlflow.db").exists()
    artifacts = paths.root / "mlflow" / "artifacts" / run_id / "artifacts"
    assert (artifacts / "training" / "log.csv").exists() and (artifacts / "log.csv").exists()


def test_the_store_is_made_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_made: Path, aside: Path) -> None:
        aside.write_bytes(b"SQLite")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tracking.shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space"):
            tracking.client(Paths(tmp_path))
    assert [file.name for file in (tmp_path / "mlflow").iterdir()] == [".mlflow.db.lock"]
    assert tracking.client(Paths(tmp_path)).search_experiments()


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")]
)
def test_a_run_ends_as_what_ended_it(paths: Paths, error: type[BaseException], status: str) -> None:
    with pytest.raises(error), tracking.run(paths, "train") as run_id:
        raise error
    assert tracking.client(paths).get_run(run_id).info.status == status


def test_sigterm_ends_the_run_and_then_the_process(paths: Paths) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, tracking.run(paths, "train") as run_id:
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(5)
    assert ended.value.code == 143
    assert tracking.client(paths).get_run(run_id).info.status == "KILLED"
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_thread_can_track_too(paths: Paths) -> None:
    ids = []

    def work() -> None:
        with tracking.run(paths, "thread") as run_id:
            ids.append(run_id)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert tracking.client(paths).get_run(ids[0]).info.status == "FINISHED"


def test_the_environment_names_store_and_experiment(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = Paths(paths.root / "elsewhere")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri(paths))
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    name = tracking.client(elsewhere).get_experiment(tracking.experiment(elsewhere)).name
    assert name == "other"
    assert not elsewhere.root.exists()


def test_a_store_in_a_folder_is_a_mistake_that_can_be_mended(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    with pytest.raises(MlflowException) as refused:
        tracking.experiment(paths)
    mendable = tracking.explained(refused.value)
    assert isinstance(mendable, MlcError) and "sqlite:///mlflow.db" in str(mendable)


def test_a_deleted_experiment_says_how_to_restore_it(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "deleted")
    tracking.client(paths).delete_experiment(tracking.experiment(paths))
    with pytest.raises(MlcError, match="mlflow experiments restore"):
        tracking.experiment(paths)


def test_nothing_phones_home() -> None:
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


HOLDS = """\
import sys, time
from pathlib import Path
from mlc import tracking
from mlc.paths import Paths
with tracking.run(Paths(Path(sys.argv[1])), "train") as run_id:
    print(run_id, flush=True)
    time.sleep(600)
"""


def test_a_killed_process_leaves_no_run_open_and_a_living_one_keeps_its_own(paths: Paths) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_TRACKING")}
    client = tracking.client(paths)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(paths.root)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        killed = process.stdout.readline().strip()
        try:
            with tracking.run(paths, "evaluate") as alive:
                assert tracking.end_abandoned(paths) == []
                assert client.get_run(killed).info.status == "RUNNING"
                process.kill()
                process.wait()
                assert tracking.end_abandoned(paths) == [killed]
                assert client.get_run(killed).info.status == "KILLED"
                assert client.get_run(alive).info.status == "RUNNING"
        finally:
            process.kill()
    assert client.get_run(alive).info.status == "FINISHED"
    assert tracking.end_abandoned(paths) == []


def test_a_run_of_another_project_is_left_alone(paths: Paths, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.uri(paths))
    client = tracking.client(paths)
    theirs = client.create_run(tracking.experiment(paths), tags={tracking.OWNER: "theirs"}).info.run_id
    with tracking.run(Paths(tmp_path), "train"):
        pass
    assert client.get_run(theirs).info.status == "RUNNING"
    client.set_terminated(theirs)


class _Refuses(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(int(self.path.split("/")[1]))
        self.end_headers()

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that answers everything with the status its path begins with; MLflow tries once, as user alice."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "alice")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    with HTTPServer(("127.0.0.1", 0), _Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        ("401", "does not know who this is: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD", 2),
        ("403", "refuses this to alice: logging takes EDIT on the experiment", 2),
        ("503", "cannot be reached or is overloaded: start the tracking server", 75),
        (None, "cannot be reached or is overloaded: start the tracking server", 75),
    ],
)
def test_what_a_server_refuses_is_one_line_without_a_password(
    refusing: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: str | None,
    message: str,
    code: int,
) -> None:
    address = f"{refusing}/{status}" if status else "127.0.0.1:9"  # discard: nobody listens
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://alice:secret@{address}")
    monkeypatch.setattr(sys, "argv", ["mlc", "registry", "list"])
    monkeypatch.chdir(Path(__file__).parents[1])
    with pytest.raises(SystemExit) as ended:
        main()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"mlc: http://***@{address} {message}") and "secret" not in line
    assert ended.value.code == code


def test_a_password_that_ends_the_address_is_a_mistake_that_can_be_mended(
    monkeypatch: pytest.MonkeyPatch, paths: Paths
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://alice:hunter/22@127.0.0.1:9")
    with pytest.raises(MlflowException) as refused:
        tracking.client(paths).get_run("0" * 32)
    message = str(tracking.explained(refused.value))
    assert message.startswith("MLFLOW_TRACKING_URI, http://***@127.0.0.1:9, is no URL: ") and "hunter" not in message


def test_what_a_server_has_not_said_stays_as_it_is(
    refusing: str, monkeypatch: pytest.MonkeyPatch, paths: Paths
) -> None:
    mistake = ValueError("mine")
    assert tracking.explained(mistake) is mistake
    with pytest.raises(MlflowException) as missing:
        tracking.client(paths).get_run("0" * 32)
    assert tracking.explained(missing.value) is missing.value
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{refusing}/404")
    with pytest.raises(MlflowException) as missing:
        tracking.client(paths).get_run("0" * 32)
    assert tracking.explained(missing.value) is missing.value
