"""MLflow's store, and runs that always end.

Which store and which experiment are MLflow's own settings, ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME``;
without them it is a sqlite file and a folder below ``mlflow/``. Everything goes through ``MlflowClient`` and explicit
run ids: the fluent interface keeps the active run in global state, where a crash leaves it open.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
# At the end of every run it prints the server's address as it was given, with its password.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a dozen lines in a log for a second's work
# Seven tries of growing distance are four minutes, per call: four tries are ten seconds, enough for a restart's gap.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.environment_variables import MLFLOW_ALLOW_FILE_STORE
from mlflow.exceptions import InvalidUrlException, MlflowException

from mlc.errors import MlcError, is_transient
from mlc.files import replacing, sha256_json
from mlc.paths import Paths
from mlc.text import shown_uri

# It logs the stack trace of every error that it then raises, with all its values: the error says the same.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
OWNER = "mlc.owner"  # tag of a run: the name of the file that its process holds locked


def uri(paths: Paths) -> str:
    """The tracking store's address: ``MLFLOW_TRACKING_URI``, or the local sqlite file, which is made."""
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if address:
        return address
    file = (paths.root / "mlflow" / "mlflow.db").resolve()
    if not file.exists():
        _create(file)
    return f"sqlite:///{file.as_posix()}"


def _create(file: Path) -> None:
    """Makes the local store, whole or not at all: one that a kill or a full disk has left amid its hundred migrations
    is a stack trace of MLflow's ever after. Two processes that begin at once make one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(".mlflow.db.lock")), tempfile.TemporaryDirectory() as folder:
        if not file.exists():
            database = Path(folder) / file.name
            MlflowClient(tracking_uri=f"sqlite:///{database.as_posix()}")
            with replacing(file) as aside:
                shutil.copyfile(database, aside)


def explained(error: Exception) -> Exception:
    """A refusal of the tracking server's, or its absence, as what a person can do about it; all else as it is."""
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if isinstance(error, MlflowException) and MLFLOW_ALLOW_FILE_STORE.name in str(error):
        return MlcError(
            f"MLFLOW_TRACKING_URI, {shown_uri(address)}, is a folder, in which MLflow keeps no runs any more: name a"
            " database, such as sqlite:///mlflow.db; `mlflow migrate-filestore` takes over what is in the folder"
        )
    status = error.get_http_status_code() if isinstance(error, MlflowException) else None
    if status is None or not address.startswith("http"):
        return error
    server = shown_uri(address)
    if isinstance(error, InvalidUrlException):
        message = f"MLFLOW_TRACKING_URI, {server}, is no URL: in a password write %40 for @, %2F for /, %3F for ?"
    elif is_transient(error):
        message = (
            f"{server} cannot be reached or is overloaded: start the tracking server or correct MLFLOW_TRACKING_URI,"
            " then run the same command again; finished stages and checkpoints are kept"
        )
    elif status == 401:
        message = f"{server} does not know who this is: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    elif status == 403:
        user = os.environ.get("MLFLOW_TRACKING_USERNAME", "this user")
        message = (
            f"{server} refuses this to {user}: logging takes EDIT on the experiment, registering and moving an alias"
            " EDIT on the model, removing one MANAGE. Have it granted (docs/servers.md), or set"
            " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD of somebody who has it, then run it again"
        )
    else:
        return error
    mendable = MlcError(message)
    mendable.__cause__ = error
    return mendable


def has_store(paths: Paths) -> bool:
    """Whether there is a store already: the local one is made by asking it anything."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or (paths.root / "mlflow" / "mlflow.db").exists()


def client(paths: Paths) -> MlflowClient:
    return MlflowClient(tracking_uri=uri(paths))


def experiment_name() -> str:
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or "mlc"


def experiment(paths: Paths) -> str:
    """The id of the experiment, which is created when it does not exist.

    Raises:
        MlcError: the experiment was deleted in MLflow.
    """
    store, name = client(paths), experiment_name()
    existing = store.get_experiment_by_name(name)
    if existing is None:
        # A store named by the user decides itself where artifacts go.
        local = not os.environ.get("MLFLOW_TRACKING_URI")
        location = (paths.root / "mlflow" / "artifacts").resolve().as_uri() if local else None
        try:
            return str(store.create_experiment(name, artifact_location=location))
        except MlflowException:
            existing = store.get_experiment_by_name(name)  # another process was faster
            if existing is None:
                raise
    if existing.lifecycle_stage != "active":
        raise MlcError(
            f"MLflow's experiment {name!r} was deleted: restore it with "
            f"`mlflow experiments restore -x {existing.experiment_id}`, or set MLFLOW_EXPERIMENT_NAME to another name"
        )
    return str(existing.experiment_id)


def _terminated(signum: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + signum)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM unwinds the stack instead of ending the process on the spot; only the main thread can have it so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _owners(paths: Paths) -> Path:
    """The folder of the locks that processes of this project hold for their runs in this store and experiment."""
    return paths.root / ".cache" / "mlc" / "runs" / sha256_json([uri(paths), experiment_name()])[:12]


def end_abandoned(paths: Paths) -> list[str]:
    """Ends runs as KILLED whose process is gone, after kill -9 or a crash of the machine, and returns their ids.

    A process holds a lock for its run, which the system takes back however it ends: what can be locked is nobody's.
    Only runs of this folder are looked at, and MLflow is asked only where there is something to end.
    """
    ended = []
    for file in sorted(_owners(paths).glob("*")):
        lock = FileLock(file, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            continue  # alive
        try:
            store = client(paths)
            query = f"tags.`{OWNER}` = '{file.name}' and attributes.status = 'RUNNING'"
            for abandoned in store.search_runs([experiment(paths)], query):
                store.set_terminated(abandoned.info.run_id, "KILLED")
                ended.append(str(abandoned.info.run_id))
            file.unlink(missing_ok=True)
        finally:
            lock.release()
    return ended


@contextmanager
def _owner(paths: Paths) -> Iterator[str]:
    """The name of a file that this process holds locked; it stays when the block raises, for the run may be open."""
    file = _owners(paths) / uuid.uuid4().hex
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file):
        yield file.name
        file.unlink(missing_ok=True)


@contextmanager
def run(
    paths: Paths, name: str, *, params: Mapping[str, Any] | None = None, tags: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Creates a run in the experiment, yields its id, and ends it: FINISHED, FAILED after an exception, or KILLED
    after Ctrl-C or SIGTERM. The exception goes on. Runs that killed processes left open are ended first.

    ``params`` are flat, 100 at most; values are written with ``str``.
    """
    store = client(paths)
    end_abandoned(paths)
    # The handler comes first: a signal between creating the run and watching over it would leave it RUNNING.
    with _sigterm_raises(), _owner(paths) as owner:
        labels = {OWNER: owner, **(tags or {})}
        run_id = str(store.create_run(experiment(paths), run_name=name, tags=labels).info.run_id)
        status = "KILLED"
        try:
            if params:
                store.log_batch(run_id, params=[Param(key, str(value)) for key, value in params.items()])
            yield run_id
            status = "FINISHED"
        except Exception:
            status = "FAILED"
            raise
        finally:
            store.set_terminated(run_id, status)


def log_metrics(paths: Paths, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
    """Logs at most 1000 metrics at one step; the same key at the same step and time is logged once."""
    now = int(time.time() * 1000)
    client(paths).log_batch(run_id, metrics=[Metric(key, float(value), now, step) for key, value in metrics.items()])


def set_tags(paths: Paths, run_id: str, tags: Mapping[str, str]) -> None:
    client(paths).log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def log_artifact(paths: Paths, run_id: str, file: Path, folder: str | None = None) -> None:
    """Copies a file into the run's artifacts, below ``folder``."""
    with tempfile.TemporaryDirectory() as scratch:
        # Without its mode: DVC's links are read-only, and a local store could not write that file a second time.
        copy = shutil.copyfile(file, Path(scratch) / file.name)
        client(paths).log_artifact(run_id, str(copy), folder)


def log_artifacts(paths: Paths, run_id: str, source: Path, folder: str | None = None) -> None:
    """Copies what is in the folder ``source`` into the run's artifacts, below ``folder``."""
    client(paths).log_artifacts(run_id, str(source), folder)
