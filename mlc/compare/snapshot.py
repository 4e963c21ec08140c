"""Snapshots to compare: what a version, a revision, an experiment or the workspace left."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from mlc import git
from mlc.errors import MlcError
from mlc.evaluation.samples import read_samples
from mlc.gates.paired import unique
from mlc.gates.verdict import MADE_BY, Verdict
from mlc.paths import Paths
from mlc.registry.model import RegisteredModel, names_version
from mlc.settings import flat
from mlc.text import one_line

WORKSPACE = "workspace"
# What is read of a snapshot, where a project has it; a registered version has it beside each other under these names.
PLACES = {
    "params.yaml": "params.yaml",
    "data.dvc": "data.dvc",
    "verdict.json": "artifacts/gate/verdict.json",
    "samples.jsonl": "artifacts/evaluation/candidate/samples.jsonl",
}
Read = Callable[[str], str | None]


@dataclass(frozen=True)
class Snapshot:
    """``data`` is the hash of the prompt sets; None is what there is not."""

    name: str
    commit: str | None
    data: str | None
    params: Mapping[str, Any]
    verdict: Verdict | None
    samples: pd.DataFrame | None


def _snapshot(name: str, commit: str | None, read: Read) -> Snapshot:
    yaml = YAML(typ="safe", pure=True)
    texts = {file: read(file) for file in PLACES}
    params, pointer = texts["params.yaml"], texts["data.dvc"]
    if params is None:
        raise MlcError(f"{name} has no params.yaml: it is no state of this project")
    verdict, samples = None, None
    with tempfile.TemporaryDirectory() as folder:
        for file, text in texts.items():
            (Path(folder) / file).write_text(text or "", encoding="utf-8")
        if texts["verdict.json"] is not None:
            verdict = Verdict.read(Path(folder) / "verdict.json", MADE_BY)
        if texts["samples.jsonl"] is not None:
            samples = read_samples(Path(folder) / "samples.jsonl")
            unique(samples, f"samples of {name}")
    return Snapshot(
        name=name,
        commit=commit,
        data=yaml.load(pointer)["outs"][0]["md5"] if pointer else None,
        params=flat(yaml.load(params)),
        verdict=verdict,
        samples=samples,
    )


def _version(name: str, registered: str, paths: Paths) -> Snapshot:
    from mlc.registry import verify

    model = RegisteredModel(paths, registered)
    version = model.version(name)
    with verify.fetched(model, str(version.version), verify.EVIDENCE) as evidence:

        def read(file: str) -> str | None:
            path = evidence / file
            return path.read_text(encoding="utf-8") if path.exists() else None

        return _snapshot(f"version {version.version}", version.tags.get("git_commit"), read)


def _workspace(paths: Paths) -> Snapshot:
    def read(file: str) -> str | None:
        path = paths.root / PLACES[file]
        return path.read_text(encoding="utf-8") if path.exists() else None

    return _snapshot(WORKSPACE, None, read)


def _revision(name: str, paths: Paths) -> Snapshot:
    """A git revision or a DVC experiment, whose outputs come from DVC's cache or its remote."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import RevError, resolve_rev

    try:
        with Repo(str(paths.root)) as repo:
            commit = str(resolve_rev(repo.scm, name))
    except RevError:
        raise MlcError(
            f"{name} is no version of the registry, no git revision and no experiment: `mlc registry list`, `git log`"
            " and `dvc exp list` show what there is"
        ) from None
    except DvcException as error:
        raise MlcError(f"{name}: {error}") from None
    files, prefix = git.files_at(paths.root, commit)

    def committed(path: str) -> bool:
        """Whether the output was there when that state was committed; dvc.yaml names it from the beginning."""
        lock = f"{prefix}dvc.lock"
        locked = files.read_text(lock, encoding="utf-8") if files.exists(lock) else ""
        return f"path: {path}\n" in locked

    def read(file: str) -> str | None:
        path = PLACES[file]
        if not files.exists(f"{prefix}{path}"):
            return None
        try:
            return str(files.read_text(f"{prefix}{path}", encoding="utf-8"))
        except Exception as error:  # each kind of remote has its own
            if not committed(path):
                return None
            why = one_line(error)
            raise MlcError(
                f"{path} of {name} is in neither DVC's cache nor a remote ({why}): `dvc push` it there"
            ) from None

    return _snapshot(name, commit, read)


def snapshot(name: str, registered: str, paths: Paths) -> Snapshot:
    """A snapshot by its name: ``workspace``, a version's number or alias, or a revision or experiment.

    Raises:
        MlcError: there is no such thing, or what it left cannot be read.
    """
    if name == WORKSPACE:
        return _workspace(paths)
    if names_version(name):
        return _version(name, registered, paths)
    return _revision(name, paths)
