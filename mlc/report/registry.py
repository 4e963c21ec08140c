"""What the page takes from the registry, and what the training run gets of the page.

The page is whole without either: a project whose models are in another store still shows what happened.
"""

from __future__ import annotations

from mlc import tracking
from mlc.errors import MlcError
from mlc.evaluation.metrics import Metrics
from mlc.paths import Paths
from mlc.registry.model import RegisteredModel
from mlc.registry.registration import Registration
from mlc.text import one_line


def champion(registration: Registration, paths: Paths) -> tuple[Metrics | None, str]:
    """Metrics of the champion that the candidate was up against, and which one that is, or why there are none."""
    version = registration.previous if registration.promoted else registration.champion
    if version is None:
        return None, "There was no champion before this candidate: base and candidate are shown."
    if not tracking.has_store(paths):
        return None, f"Champion version {version} is not shown: there is no model registry here."
    from mlc.registry.verify import EVIDENCE, fetched

    try:
        with fetched(RegisteredModel(paths, registration.model), version, f"{EVIDENCE}/metrics.json") as file:
            metrics = Metrics.read(file, "mlc register")
    except MlcError as error:
        return None, f"Champion version {version} is not shown: {error}."
    now = "the champion before this candidate" if registration.promoted else "the champion"
    return metrics, f"Champion is version {version}, {now}, with the metrics that it was registered with."


def log(registration: Registration, paths: Paths) -> None:
    """Adds the page to the artifacts of the training run; says so where that cannot be done."""
    if not tracking.has_store(paths):
        return
    from mlflow.exceptions import MlflowException

    try:
        tracking.log_artifact(paths, registration.run_id, paths.report / "index.html", "report")
    except (MlcError, MlflowException) as error:
        print(f"report: not added to MLflow's run {registration.run_id}: {one_line(error)}")
