"""Makes a registered version again from its commit and data, in a git worktree, and compares.

The worktree has a DVC cache and an MLflow store of its own: nothing of the project's is written to, its registry least
of all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from mlc.errors import MlcError
from mlc.evaluation.metrics import Metrics
from mlc.files import differences as changed_files
from mlc.gates.verdict import Verdict
from mlc.git import git, prefix
from mlc.models.manifest import Manifest
from mlc.paths import ROLES, Paths
from mlc.registry.model import RegisteredModel
from mlc.registry.verify import Evidence, VersionFiles, verified
from mlc.settings import flat

# What of a manifest has to be the same; files come by name. The commit is the one that was checked out, and the hash in
# data.dvc is of the evaluation's prompts, too, which may be newer than the training.
COMPARED = ("step", "parameters", "data.prompts", "base")
_PROJECTS = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID")


class Reproduction(TypedDict):
    """How a version that was made again compares with what was registered.

    ``differences`` are in weights, base, data, parameters, metrics or verdict; ``libraries`` are those that are other
    than they were, which explains differences but is none; ``folder`` is null where it is gone.
    """

    model: str
    version: str
    equal: bool
    differences: list[str]
    libraries: list[str]
    folder: str | None


def reproduce(paths: Paths, name: str, which: str, into: Path | None = None) -> Reproduction:
    """Runs the pipeline up to the gate as it was for a version, by number or alias, and compares.

    At the commit that the version was registered at: what decided is of that commit, and what was trained before has
    the same settings and inputs there.

    Args:
        into: the worktree's folder, which stays; without it, it is a temporary one, which stays if something differs.

    Raises:
        IntegrityError: the version is not what was registered.
        MlcError: its commit or data cannot be had any more, ``into`` is in use, or a stage failed.
    """
    model = RegisteredModel(paths, name)
    number = str(model.version(which).version)
    with verified(model, number) as folder:
        evidence = VersionFiles(folder).evidence
        then, provenance = results(evidence), evidence.provenance()
    commit = provenance.commit if provenance is not None else then.manifest.git.commit
    if commit is None:
        raise MlcError(f"version {number} of {name} comes from no commit: there is nothing to go back to")
    git(paths.root, "cat-file", "-e", f"{commit}^{{commit}}")
    if into is not None and into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise MlcError(f"{into} is there already: name a folder that is new or empty")
    worktree = (into or Path(tempfile.mkdtemp(prefix=f"mlc-reproduce-{number}-"))).resolve()
    git(paths.root, "worktree", "add", "--detach", str(worktree), commit)
    project = worktree / prefix(paths.root)
    print(f"reproduce: version {number} of {name}, commit {commit[:12]}, in {project}", file=sys.stderr)
    _data(paths, project)
    _dvc(project, "repro", "--force", "gate")
    now = _results_of(Paths(project))
    changes = differences(then, now)
    libraries = _changed(then.manifest.libraries, now.manifest.libraries)
    stays = into is not None or bool(changes)
    if not stays:
        git(paths.root, "worktree", "remove", "--force", str(worktree))
    return {
        "model": name,
        "version": number,
        "equal": not changes,
        "differences": changes,
        "libraries": libraries,
        "folder": str(project) if stays else None,
    }


def _dvc(project: Path, *arguments: str) -> None:
    """Runs DVC in the worktree, on the worktree's code; its output goes to the screen."""
    environment = {key: value for key, value in os.environ.items() if key not in _PROJECTS}
    # Ahead of an installed package, which may be the project's own working tree; and `mlc` of this environment.
    environment["PYTHONPATH"] = str(project)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=project, env=environment, stdout=sys.stderr)
    if done.returncode:
        raise MlcError(f"`dvc {' '.join(arguments)}` failed in {project}, which stays for a look: see above")


def _data(paths: Paths, project: Path) -> None:
    """What .dvc files name, from the project's cache or its remotes, into a cache of the worktree's own."""
    pointers = sorted(f.name for f in project.glob("*.dvc") if f.is_file())
    if not pointers:
        return
    local = paths.root / ".dvc" / "config.local"
    mine = project / ".dvc" / "config.local"
    if local.exists():
        shutil.copy(local, mine)  # remotes and their keys
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    cache = subprocess.run(command, cwd=paths.root, capture_output=True, text=True).stdout.strip()
    if cache:
        _dvc(project, "cache", "dir", "--local", cache)
    try:
        _dvc(project, "pull", *pointers)
    finally:
        if local.exists():
            shutil.copy(local, mine)
        else:
            mine.unlink(missing_ok=True)


class Results(NamedTuple):
    """What the pipeline left up to the gate."""

    manifest: Manifest
    verdict: Verdict
    metrics: Metrics
    base_metrics: Metrics


def results(evidence: Evidence) -> Results:
    """Those that a version was registered with."""
    return Results(evidence.manifest(), evidence.verdict(), evidence.metrics(), evidence.base_metrics())


def _results_of(paths: Paths) -> Results:
    metrics = {role: Metrics.read(paths.evaluation(role) / "metrics.json", "mlc metrics") for role in ROLES}
    verdict = Verdict.read(paths.verdict, "mlc gate")
    return Results(Manifest.of(paths.model), verdict, metrics["candidate"], metrics["base"])


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{k}: {then.get(k)} -> {now.get(k)}" for k in sorted(then.keys() | now.keys()) if then.get(k) != now.get(k)
    ]


def differences(then: Results, now: Results) -> list[str]:
    """What is not as it was, in words."""
    changes = [f"model: {what}" for what in changed_files(then.manifest.files, now.manifest.files)]
    for part in COMPARED:
        changes += _few(part, _changed(*(_part(manifest, part) for manifest in (then.manifest, now.manifest))))
    for name, before, after in (
        ("base metrics", then.base_metrics, now.base_metrics),
        ("metrics", then.metrics, now.metrics),
    ):
        changes += _few(name, _changed(flat(before.content()), flat(after.content())))
    if then.verdict.passed != now.verdict.passed:
        changes.append(f"verdict: passed {then.verdict.passed} -> {now.verdict.passed}")
    return changes


def _part(manifest: Manifest, part: str) -> dict[str, Any]:
    values = flat(manifest.content())
    return {name: value for name, value in values.items() if name == part or name.startswith(f"{part}.")}


def _few(what: str, changes: Sequence[str]) -> list[str]:
    more = f"; and {len(changes) - 3} more" if len(changes) > 3 else ""
    return [f"{what}: {'; '.join(changes[:3])}{more}"] if changes else []
