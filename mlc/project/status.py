"""``mlc status``: how things stand, on one screen. It reads, and changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any, NotRequired, TypedDict

from mlc import tracking
from mlc.errors import IntegrityError
from mlc.paths import Paths
from mlc.registry.ledger import rejection, rejection_reason
from mlc.registry.model import RegisteredModel
from mlc.registry.registration import Registration, outdated
from mlc.text import one_line, visible

RUNS = 5  # the latest that are shown
SECONDS = 10  # to wait for Prefect


class RegistryStatus(TypedDict):
    """The champion of the registered model ``name`` and since when, and the version that waits for a person's word.

    ``faults`` are what is wrong with its aliases and ledger, and what it says otherwise than the project's record.
    """

    name: str
    champion: str | None
    since: str | None
    previous: str | None
    waiting: str | None
    faults: list[str]


class RunStatus(TypedDict):
    """A run in MLflow; ``gate`` is its verdict, where it has one."""

    name: str
    id: str
    status: str
    started: str
    gate: str | None


class StaleError(TypedDict):
    """Why DVC cannot say what is stale."""

    error: str


class Schedule(TypedDict):
    """Whether a Prefect server is configured, and when its next run is due; ``error`` where it did not answer."""

    configured: bool
    next: str | None
    run: NotRequired[str]
    error: NotRequired[str]


class ProjectStatus(TypedDict):
    """How things stand, ready for JSON. ``stale`` is stage -> what changed."""

    registry: RegistryStatus
    runs: list[RunStatus]
    stale: dict[str, list[str]] | StaleError
    schedule: Schedule


def _ago(when: datetime, now: datetime) -> str:
    age = abs(now - when)
    for unit, length in (("days", timedelta(days=1)), ("hours", timedelta(hours=1)), ("minutes", timedelta(minutes=1))):
        if age >= 2 * length:
            return f"{age // length} {unit}"
    return f"{int(age.total_seconds())} seconds"


def _registry(name: str, paths: Paths) -> RegistryStatus:
    model = RegisteredModel(paths, name)
    status: RegistryStatus = {
        "name": name,
        "champion": None,
        "since": None,
        "previous": None,
        "waiting": None,
        "faults": model.faults(),
    }
    try:
        entries = model.ledger()
    except IntegrityError:  # the faults say so; who was rejected is not known
        return status
    held = {alias: version for alias, version in model.aliases().items() if not rejection(entries, version)}
    champion = held.get("champion")
    since = [e["when"] for e in entries if e["alias"] == "champion" and e["to"] == champion] if champion else []
    registration = Registration.of(paths) if paths.registration.exists() else None
    version = registration.version if registration is not None and registration.waiting else None
    waits = version if version not in (None, champion) and not rejection_reason(entries, version) else None
    if registration is not None and (changed := outdated(paths, model)):
        status["faults"].append(f"{paths.registration}: {changed}; `mlc run` registers again")
    return {
        **status,
        "champion": champion,
        "since": since[-1] if since else None,
        "previous": held.get("previous"),
        "waiting": waits,
    }


def _runs(paths: Paths) -> list[RunStatus]:
    client = tracking.client(paths)
    experiment = client.get_experiment_by_name(tracking.experiment_name())
    if experiment is None:
        return []
    runs = client.search_runs([experiment.experiment_id], order_by=["start_time DESC"], max_results=RUNS)
    return [
        {
            "name": run.info.run_name,
            "id": run.info.run_id,
            "status": run.info.status,
            "started": datetime.fromtimestamp(run.info.start_time / 1000, UTC).isoformat(timespec="seconds"),
            "gate": run.data.tags.get("gate"),
        }
        for run in runs
    ]


def _stale(paths: Paths) -> dict[str, list[str]] | StaleError:
    """Stage -> what changed, by ``dvc status``."""
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(command, cwd=paths.root, capture_output=True, text=True)
    if done.returncode:
        return {"error": " ".join(done.stderr.replace("ERROR: ", "").split())}
    stages: dict[str, list[Any]] = json.loads(done.stdout)
    return {stage: _reasons(changes) for stage, changes in stages.items()}


def _reasons(changes: list[Any]) -> list[str]:
    """What changed, each file once; of settings, their names."""
    names: list[str] = []
    for change in changes:
        if isinstance(change, str):  # such as "always changed"
            names.append(change)
            continue
        for files in change.values():
            for path, what in files.items():
                names += [path] if isinstance(what, str) else [key for keys in what.values() for key in keys]
    return list(dict.fromkeys(names))


def _schedule() -> Schedule:
    """The next scheduled run, where a Prefect server is configured."""
    address = os.environ.get("PREFECT_API_URL")
    if address is None:
        return {"configured": False, "next": None}
    import httpx

    body = {
        "limit": 1,
        "sort": "EXPECTED_START_TIME_ASC",
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}, "deployment_id": {"is_null_": False},
                      "tags": {"all_": ["mlc"]}},
    }  # fmt: skip
    headers = {"Authorization": f"Bearer {key}"} if (key := os.environ.get("PREFECT_API_KEY")) else {}
    try:
        answer = httpx.post(f"{address.rstrip('/')}/flow_runs/filter", json=body, headers=headers, timeout=SECONDS)
        answer.raise_for_status()
        runs = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        return {"configured": True, "next": None, "error": one_line(error)}
    if not runs:
        return {"configured": True, "next": None}
    return {"configured": True, "next": runs[0]["expected_start_time"], "run": runs[0]["name"]}


def find(name: str, paths: Paths) -> ProjectStatus:
    """Registry, last runs, stale stages and the next scheduled run, ready for JSON."""
    registry: RegistryStatus = {
        "name": name,
        "champion": None,
        "since": None,
        "previous": None,
        "waiting": None,
        "faults": [],
    }
    runs: list[RunStatus] = []
    if tracking.has_store(paths):
        registry, runs = _registry(name, paths), _runs(paths)
    return {"registry": registry, "runs": runs, "stale": _stale(paths), "schedule": _schedule()}


def render_text(status: ProjectStatus) -> str:
    """The same for a person."""
    now, registry = datetime.now(UTC), status["registry"]
    lines = []
    if registry["champion"]:
        since = datetime.fromisoformat(registry["since"]) if registry["since"] else None
        age = f", champion for {_ago(since, now)}" if since else ""
        lines.append(f"champion   version {registry['champion']} of {registry['name']}{age}")
    else:
        lines.append(f"champion   none: {registry['name']} has no version that was promoted")
    if registry["waiting"]:
        lines.append(f"waiting    version {registry['waiting']}: `mlc registry approve {registry['waiting']} --why …`")
    lines += [f"{'' if number else 'registry':<10} {visible(fault)}" for number, fault in enumerate(registry["faults"])]
    for number, run in enumerate(status["runs"]):
        gate = f", gate {visible(run['gate'])}" if run["gate"] else ""
        when = _ago(datetime.fromisoformat(run["started"]), now)
        lines.append(
            f"{'' if number else 'last runs':<10} {visible(run['name'])}: {run['status'].lower()}{gate}, {when} ago"
        )
    stale = status["stale"]
    if not status["runs"]:
        lines.append("last runs  none")
    if "error" in stale:
        lines.append(f"stale      not known: {stale['error']}")
    elif not stale:
        lines.append("stale      nothing: all stages are up to date")
    else:
        for number, (stage, reasons) in enumerate(stale.items()):
            more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
            lines.append(f"{'' if number else 'stale':<10} {stage}: {', '.join(reasons[:3])}{more}")
    schedule = status["schedule"]
    if not schedule["configured"]:
        lines.append("next run   no schedule: PREFECT_API_URL is not set")
    elif schedule["next"] is None:
        lines.append(f"next run   none{': ' + schedule['error'] if 'error' in schedule else ' is scheduled'}")
    else:
        due = datetime.fromisoformat(schedule["next"])
        lines.append(f"next run   in {_ago(due, now)}, at {due:%Y-%m-%d %H:%M} UTC")
    return "\n".join(lines)
