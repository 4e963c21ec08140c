"""Where a version came from, all of it, and the commands that make it again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypedDict

from pydantic import JsonValue
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mlc import tracking
from mlc.errors import MlcError
from mlc.files import sha256_json
from mlc.gates.licences import of_verdict
from mlc.git import git, prefix
from mlc.models.manifest import Manifest
from mlc.paths import Paths, Role
from mlc.provenance.code import LOCK
from mlc.registry.ledger import Entry
from mlc.registry.model import RegisteredModel
from mlc.registry.verify import EVIDENCE, Evidence, fetched


class VersionRecord(TypedDict):
    """What MLflow itself knows of a version.

    ``manifest`` and ``verdict`` are sha256, as ``register`` tagged it; null where another program made the version.
    """

    version: str
    aliases: list[str]
    created: str  # ISO 8601, UTC
    run: str
    manifest: str | None
    verdict: str | None
    git_commit: str | None


class VersionSummary(VersionRecord):
    """The same, and the hash of the prompt sets."""

    data: str | None


LineageData = TypedDict("LineageData", {"data.dvc": str | None, "prompts": str})  # as in the manifest


class LineageEvaluation(TypedDict):
    """What was checked out when the version was registered, which everything that decided about it is of: the commit
    and the hash of the prompt sets; null where the version is from before they were recorded. ``stages`` is the commit
    at which each stage ran."""

    commit: str | None
    data: str | None
    stages: dict[str, str | None]


class LineageBase(TypedDict):
    """The base as in the manifest; ``files`` is one sha256 for all of them."""

    model: str
    revision: str | None
    files: str


class LineageGate(TypedDict):
    """The verdict in short: whether it passed, how many rules it has, and the sha256 of the samples it judged."""

    passed: bool
    rules: int
    samples: dict[Role, str]


class Lineage(VersionRecord):
    """Everything that a version was made from and judged by.

    ``runs`` are those about the same model, such as audits; ``dvc_lock`` is a sha256; ``licences`` are those of all
    that it was made and judged with, null where one is unknown; ``ledger`` are the entries about the version,
    ``rebuild`` the commands that make it again. ``commit`` and ``data`` are the training's, as everything else in the
    manifest; ``evaluation`` has those of what decided.
    """

    model: str
    data: LineageData
    runs: list[str]
    commit: str | None
    evaluation: LineageEvaluation
    dvc_lock: str | None
    base: LineageBase
    parameters: dict[str, JsonValue]
    libraries: dict[str, str]
    gate: LineageGate
    licences: list[dict[str, JsonValue]]
    ledger: list[Entry]
    rebuild: list[str]


def _record(version: Any, aliases: dict[str, str]) -> VersionRecord:
    number, tags = str(version.version), version.tags
    return {
        "version": number,
        "aliases": sorted(alias for alias, holder in aliases.items() if holder == number),
        "created": datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
        "run": version.run_id,
        "manifest": tags.get("manifest"),
        "verdict": tags.get("verdict"),
        "git_commit": tags.get("git_commit"),
    }


def summary(version: Any, aliases: dict[str, str]) -> VersionSummary:
    """What MLflow itself knows of one of its model versions."""
    return {**_record(version, aliases), "data": version.tags.get("data")}


def lineage(paths: Paths, name: str, which: str) -> Lineage:
    """Everything that a version, by number or alias, was made from and judged by.

    Raises:
        MlcError: there is no such version, or its evidence cannot be read.
    """
    model = RegisteredModel(paths, name)
    version = model.version(which)
    number = str(version.version)
    with fetched(model, number, EVIDENCE) as folder:
        evidence = Evidence(folder)
        manifest, verdict, provenance = evidence.manifest(), evidence.verdict(), evidence.provenance()
    commit, base, data = manifest.git.commit, manifest.base, manifest.data
    # The run of the training, and others that were about the same model, such as audits.
    about = model.client.search_runs([tracking.experiment(paths)], f"tags.manifest = '{manifest.digest}'")
    return {
        "model": name,
        **_record(version, model.aliases()),
        "data": {"data.dvc": data.pointer, "prompts": data.prompts},
        "runs": sorted({*filter(None, [version.run_id]), *(run.info.run_id for run in about)}),
        "commit": commit,
        "evaluation": {
            "commit": provenance.commit if provenance else None,
            "data": provenance.data if provenance else None,
            "stages": {name: record.commit for name, record in provenance.stages.items()} if provenance else {},
        },
        "dvc_lock": manifest.dvc_lock,
        "base": {"model": base.model, "revision": base.revision, "files": sha256_json(base.files)},
        "parameters": manifest.parameters.model_dump(mode="json"),
        "libraries": manifest.libraries | {"python": manifest.python},
        "gate": {"passed": verdict.passed, "rules": len(verdict.rules), "samples": verdict.samples},
        "licences": [item.model_dump(mode="json") for item in of_verdict(verdict)],
        "ledger": [entry for entry in model.ledger() if number in (entry["from"], entry["to"])],
        "rebuild": _rebuild(paths, provenance.commit if provenance else commit, manifest),
    }


def _rebuild(paths: Paths, commit: str | None, manifest: Manifest) -> list[str]:
    """The commands that make a version again."""
    package = _package(paths, commit, manifest)
    return [
        f"git worktree add --detach FOLDER {commit}",
        f"cd FOLDER/{prefix(paths.root)}".rstrip("/"),
        f"python -m venv .venv && . .venv/bin/activate && pip install {package}",
        "dvc pull --glob '*.dvc'",
        "dvc repro --force gate",
    ]


def _package(paths: Paths, commit: str | None, manifest: Manifest) -> str:
    """What pip has to install: the package that mlc.lock pins at the commit, or the commit's own code."""
    lock, own = paths.root / LOCK, (paths.root / "pyproject.toml").is_file()
    try:
        pinned = git(paths.root, "show", f"{commit}:./{LOCK}")
    except (FileNotFoundError, MlcError):  # the commit has none, or is not here any more
        pinned = lock.read_text(encoding="utf-8") if lock.is_file() and not own else ""
    try:
        version = YAML(typ="safe", pure=True).load(pinned)["version"]
    except (YAMLError, KeyError, TypeError):
        version = None
    if version is None and own:
        return "--constraint constraints.txt ."
    version = version or manifest.libraries.get("mlc-pipeline")
    return f"mlc-pipeline=={version}" if version else "mlc-pipeline"
