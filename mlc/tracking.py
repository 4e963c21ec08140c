"""MLflow's store, and runs that always end.

Which store and which experiment are MLflow's own settings, ``MLFLOW_TRACKING_URI`` and ``MLFLOW_EXPERIMENT_NAME``;
without them it is a sqlite file and a folder below ``mlflow/``. Everything goes through ``MlflowClient`` and explicit
run ids: the fluent interface keeps the active run in global state, where a crash leaves it open.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a dozen lines in a log for a second's work

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from mlc.errors import MlcError
from mlc.paths import Paths


def uri(paths: Paths) -> str:
    """The tracking store's address: ``MLFLOW_TRACKING_URI``, or the local sqlite file, whose folder is made."""
    address = os.environ.get("MLFLOW_TRACKING_URI")
    if address:
        return address
    folder = (paths.root / "mlflow").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder.as_posix()}/mlflow.db"


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
    found = store.get_experiment_by_name(name)
    if found is None:
        # A store named by the user decides itself where artifacts go.
        local = not os.environ.get("MLFLOW_TRACKING_URI")
        location = (paths.root / "mlflow" / "artifacts").resolve().as_uri() if local else None
        try:
            return str(store.create_experiment(name, artifact_location=location))
        except MlflowException:
            found = store.get_experiment_by_name(name)  # another process was faster
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise MlcError(
            f"MLflow's experiment {name!r} was deleted: restore it with "
            f"`mlflow experiments restore -x {found.experiment_id}`, or set MLFLOW_EXPERIMENT_NAME to another name"
        )
    return str(found.experiment_id)


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


@contextmanager
def run(
    paths: Paths, name: str, *, params: Mapping[str, Any] | None = None, tags: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Creates a run in the experiment, yields its id, and ends it: FINISHED, FAILED after an exception, or KILLED
    after Ctrl-C or SIGTERM. The exception goes on.

    ``params`` are flat, 100 at most; values are written with ``str``.
    """
    store = client(paths)
    # The handler comes first: a signal between creating the run and watching over it would leave it RUNNING.
    with _sigterm_raises():
        run_id = str(store.create_run(experiment(paths), run_name=name, tags=dict(tags or {})).info.run_id)
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
    client(paths).log_artifact(run_id, str(file), folder)


def log_artifacts(paths: Paths, run_id: str, source: Path, folder: str | None = None) -> None:
    """Copies what is in the folder ``source`` into the run's artifacts, below ``folder``."""
    client(paths).log_artifacts(run_id, str(source), folder)
