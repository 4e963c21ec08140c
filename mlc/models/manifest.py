"""The manifest: everything a model was made from, and the hash of every file it consists of.

It lies in the model's folder as ``manifest.json``. ``register`` takes a model only when its files still are what it
says.
"""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from mlc.errors import MlcError
from mlc.files import read_json, sha256, sha256_folder, sha256_json, write_json
from mlc.paths import Paths
from mlc.settings import Languages, Train

NAME = "manifest.json"
ADAPTER = "adapter_config.json"  # PEFT's, in the folder of an adapter
PICKLES = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets", "mlc-pipeline")


def git(root: Path, *arguments: str) -> str:
    """The output of a git command in a repository. Raises ``MlcError`` when it fails."""
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise MlcError(f"`{' '.join(command)}` failed: {' '.join(done.stderr.split())}")
    return done.stdout


def _commit(root: Path) -> str | None:
    """The commit that is checked out; None without git, outside a repository, or before the first commit."""
    try:
        return git(root, "rev-parse", "--verify", "HEAD").strip()
    except (FileNotFoundError, MlcError):
        return None


def prefix(root: Path) -> str:
    """Where a project lies in its repository: a path with a slash at its end, or empty at the top, or without git."""
    try:
        return git(root, "rev-parse", "--show-prefix").strip()
    except (FileNotFoundError, MlcError):
        return ""


def git_state(root: Path) -> dict[str, Any]:
    """``commit`` (null outside a repository), ``dirty``, and ``changed``: the files that make it so, relative to root.

    dvc.lock does not count: its hash has its own place in the manifest, and every run rewrites it. Untracked files
    count where code is imported from.
    """
    commit = _commit(root)
    if commit is None:
        return {"commit": None, "dirty": False, "changed": []}
    changed = git(root, "diff", "-z", "--name-only", "--no-renames", "--relative", "HEAD", "--")
    untracked = git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", "mlc", "flows")
    files = sorted(set((changed + untracked).split("\0")) - {"", "dvc.lock"})
    return {"commit": commit, "dirty": bool(files), "changed": files}


def _data_hash(pointer: Path) -> str | None:
    """The hash that data.dvc gives for the prompt sets; None where there is no data.dvc."""
    if not pointer.exists():
        return None
    try:
        return str(YAML(typ="safe", pure=True).load(pointer.read_text(encoding="utf-8"))["outs"][0]["md5"])
    except (KeyError, IndexError, TypeError):
        raise MlcError(f"{pointer} names no output with an md5: run `dvc add data`") from None


def write(
    model_folder: Path,
    *,
    languages: Languages,
    train: Train,
    base_model: str,
    base_revision: str | None,
    paths: Paths,
    step: int | None = None,
    base_files: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Writes ``manifest.json`` into a finished model's folder and returns it. Call it last: it hashes what is there.

    ``step`` is the training step that the model is of, null for the last. ``base_files`` are the hashes of the base's
    files, where they are known already.

    Raises:
        MlcError: data.dvc is broken.
        FileNotFoundError: there are no clean prompts.
    """
    lock = paths.root / "dvc.lock"
    manifest = {
        "files": _hashes(model_folder),
        "step": step or train.max_steps,
        "base": {"model": base_model, "revision": base_revision, "files": base_files or sha256_folder(paths.base)},
        "data": {
            "data.dvc": _data_hash(paths.root / "data.dvc"),
            "prompts": sha256(paths.prompts / "alignment.jsonl"),
        },
        "dvc_lock": sha256(lock) if lock.exists() else None,
        "git": git_state(paths.root),
        "parameters": {"languages": languages.model_dump(mode="json"), "train": train.model_dump(mode="json")},
        "libraries": {name: version(name) for name in LIBRARIES},
        "python": platform.python_version(),
    }
    write_json(model_folder / NAME, manifest)
    return manifest


def _hashes(model_folder: Path) -> dict[str, str]:
    return {name: digest for name, digest in sha256_folder(model_folder).items() if name != NAME}


def read(model_folder: Path) -> dict[str, Any]:
    return read_json(model_folder / NAME, "mlc train` and `mlc select")


def verify(model_folder: Path) -> dict[str, Any]:
    """Hashes every file of the model again and returns the manifest.

    Raises:
        MlcError: there is no manifest, a file was changed, is missing, or was added since training, or is a pickle.
    """
    manifest = read(model_folder)
    found = differences(manifest["files"], _hashes(model_folder))
    if found:
        raise MlcError(
            f"{model_folder} is not what {NAME} says ({'; '.join(found)}): run `mlc train` again, or restore the files"
        )
    if unsafe := pickles(model_folder):
        raise MlcError(
            f"{model_folder} holds {', '.join(unsafe)}: a pickle can run any code when it is loaded; save the model as"
            " *.safetensors, and remove these"
        )
    return manifest


def is_adapter(folder: Path) -> bool:
    """Whether a model's folder holds an adapter over the base, not whole weights."""
    return (folder / ADAPTER).is_file()


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What became of the files of a folder: ``changed: a, b``, ``missing: c``, ``added: d``; nothing if all are equal.

    Both are relative path -> sha256.
    """
    kinds = {
        "changed": sorted(name for name in then.keys() & now.keys() if then[name] != now[name]),
        "missing": sorted(then.keys() - now.keys()),
        "added": sorted(now.keys() - then.keys()),
    }
    return [f"{kind}: {', '.join(names)}" for kind, names in kinds.items() if names]


def pickles(folder: Path) -> list[str]:
    """The files of a model that are pickles by their name, or hold some."""
    return sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.suffix.lower() in PICKLES)


def weights_id(folder: Path) -> str:
    """Twelve digits that stand for a model's folder, in the ``model`` field of its sample lines."""
    return sha256_json(sha256_folder(folder))[:12]


def digest(manifest: dict[str, Any]) -> str:
    """sha256 of a manifest: the identity of a model and everything it came from."""
    return sha256_json(manifest)
