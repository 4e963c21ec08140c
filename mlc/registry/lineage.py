"""Where a version came from, all of it, and the commands that make it again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mlc import tracking
from mlc.files import sha256_json
from mlc.gates.verdict import Verdict
from mlc.git import prefix
from mlc.models import manifest as manifests
from mlc.models.manifest import Manifest
from mlc.paths import Paths
from mlc.registry.model import RegisteredModel
from mlc.registry.verify import EVIDENCE, fetched


def summary(version: Any, aliases: dict[str, str]) -> dict[str, Any]:
    """What MLflow itself knows of one of its model versions."""
    return {
        "version": str(version.version),
        "aliases": sorted(alias for alias, holder in aliases.items() if holder == str(version.version)),
        "created": datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
        "run": version.run_id,
        **{tag: version.tags.get(tag) for tag in ("manifest", "verdict", "git_commit", "data")},
    }


def lineage(paths: Paths, name: str, which: str) -> dict[str, Any]:
    """Everything that a version, by number or alias, was made from and judged by.

    Raises:
        MlcError: there is no such version, or its evidence cannot be read.
    """
    model = RegisteredModel(paths, name)
    version = model.version(which)
    number = str(version.version)
    with fetched(model, number, EVIDENCE) as folder:
        manifest = Manifest.read(folder / manifests.NAME, "mlc register")
        verdict = Verdict.read(folder / "verdict.json", "mlc register")
    commit, content = manifest.git.commit, manifest.content()
    # The run of the training, and others that were about the same model, such as audits.
    about = model.client.search_runs([tracking.experiment(paths)], f"tags.manifest = '{version.tags['manifest']}'")
    return {
        "model": name,
        **summary(version, model.aliases()),
        "runs": sorted({version.run_id, *(run.info.run_id for run in about)}),
        "commit": commit,
        "data": content["data"],
        "dvc_lock": manifest.dvc_lock,
        "base": content["base"] | {"files": sha256_json(manifest.base.files)},
        "parameters": content["parameters"],
        "libraries": manifest.libraries | {"python": manifest.python},
        "gate": {"passed": verdict.passed, "rules": len(verdict.rules), "samples": verdict.samples},
        "ledger": [entry for entry in model.ledger() if number in (entry["from"], entry["to"])],
        "rebuild": [
            f"git worktree add --detach FOLDER {commit}",
            f"cd FOLDER/{prefix(paths.root)}".rstrip("/"),
            "python -m venv .venv && . .venv/bin/activate && pip install --constraint constraints.txt .",
            "dvc pull --glob '*.dvc'",
            "dvc repro --force gate",
        ],
    }
