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
from typing import Any

from mlc.errors import MlcError
from mlc.files import read_json
from mlc.models import manifest
from mlc.paths import Paths
from mlc.registry.ledger import Model
from mlc.registry.verify import EVIDENCE, verified
from mlc.settings import flat

MINE = ("commit", "step", "parameters", "data", "base")  # what of a manifest has to be the same; files come by name
_PROJECTS = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID")


def reproduce(paths: Paths, name: str, which: str, into: Path | None = None) -> dict[str, Any]:
    """Runs the pipeline up to the gate as it was for a version, by number or alias, and compares.

    Args:
        into: the worktree's folder, which stays; without it, it is a temporary one, which stays if something differs.

    Returns:
        ``equal``; ``differences`` in weights, base, data, parameters, metrics or verdict; ``libraries`` that are other
        than they were, which explains differences but is none; ``folder``, null where it is gone.

    Raises:
        IntegrityError: the version is not what was registered.
        MlcError: its commit or data cannot be had any more, ``into`` is in use, or a stage failed.
    """
    model = Model(paths, name)
    number = str(model.version(which).version)
    with verified(model, number) as folder:
        then = results(folder / EVIDENCE)
    commit = then["manifest"]["git"]["commit"]
    manifest.git(paths.root, "cat-file", "-e", f"{commit}^{{commit}}")
    if into is not None and into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise MlcError(f"{into} is there already: name a folder that is new or empty")
    worktree = (into or Path(tempfile.mkdtemp(prefix=f"mlc-reproduce-{number}-"))).resolve()
    manifest.git(paths.root, "worktree", "add", "--detach", str(worktree), commit)
    project = worktree / manifest.prefix(paths.root)
    print(f"reproduce: version {number} of {name}, commit {commit[:12]}, in {project}", file=sys.stderr)
    _data(paths, project)
    _dvc(project, "repro", "--force", "gate")
    now = _results_of(Paths(project))
    found = differences(then, now)
    libraries = _changed(then["manifest"]["libraries"], now["manifest"]["libraries"])
    stays = into is not None or bool(found)
    if not stays:
        manifest.git(paths.root, "worktree", "remove", "--force", str(worktree))
    return {
        "model": name,
        "version": number,
        "equal": not found,
        "differences": found,
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


def results(evidence: Path) -> dict[str, Any]:
    names = ("manifest", "verdict", "metrics", "base_metrics")
    return {name: read_json(evidence / f"{name}.json", "mlc register") for name in names}


def _results_of(paths: Paths) -> dict[str, Any]:
    return {
        "manifest": manifest.read(paths.model),
        "verdict": read_json(paths.verdict, "mlc gate"),
        "metrics": read_json(paths.evaluation("candidate") / "metrics.json", "mlc evaluate candidate"),
        "base_metrics": read_json(paths.evaluation("base") / "metrics.json", "mlc evaluate base"),
    }


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{k}: {then.get(k)} -> {now.get(k)}" for k in sorted(then.keys() | now.keys()) if then.get(k) != now.get(k)
    ]


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is not as it was, in words."""
    made, again = then["manifest"], now["manifest"]
    found = [f"model: {what}" for what in manifest.differences(made["files"], again["files"])]
    for part in MINE:
        one, two = ((m["git"] if part == "commit" else m).get(part) for m in (made, again))
        if one != two:
            found += _few(part, _changed(flat({part: one}), flat({part: two})))
    for part in ("base_metrics", "metrics"):
        found += _few(part.replace("_", " "), _changed(flat(then[part]), flat(now[part])))
    if then["verdict"]["passed"] != now["verdict"]["passed"]:
        found.append(f"verdict: passed {then['verdict']['passed']} -> {now['verdict']['passed']}")
    return found


def _few(what: str, changes: Sequence[str]) -> list[str]:
    more = f"; and {len(changes) - 3} more" if len(changes) > 3 else ""
    return [f"{what}: {'; '.join(changes[:3])}{more}"] if changes else []
