"""What git knows of a project: its commit, what is uncommitted, where it lies in its repository, who works in it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mlc.errors import MlcError
from mlc.files import JsonPart

if TYPE_CHECKING:
    from dvc.api import DVCFileSystem


class GitState(JsonPart):
    """``commit`` (null outside a repository), ``dirty``, and ``changed``: the files that make it so, relative to the
    project."""

    commit: str | None
    dirty: bool
    changed: list[str]


def git(root: Path, *arguments: str) -> str:
    """The output of a git command in a repository. Raises ``MlcError`` when it fails."""
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise MlcError(f"`{' '.join(command)}` failed: {' '.join(done.stderr.split())}")
    return done.stdout


def _output(root: Path, *arguments: str) -> str | None:
    """The output of a git command; None where it fails, or git is not installed."""
    try:
        return git(root, *arguments).strip()
    except (FileNotFoundError, MlcError):
        return None


def prefix(root: Path) -> str:
    """Where a project lies in its repository: a path with a slash at its end, or empty at the top, or without git."""
    return _output(root, "rev-parse", "--show-prefix") or ""


def files_at(root: Path, revision: str) -> tuple[DVCFileSystem, str]:
    """The files of a git revision, data under DVC among them, and what the project's paths begin with there.

    A project can lie below the top of its git repository; the files are those of the whole repository.
    """
    from dvc.api import DVCFileSystem

    return DVCFileSystem(str(root.resolve()), rev=revision, subrepos=True), prefix(root)


# What decides what a stage does: it has to be in the commit, wherever git is told not to look.
DECIDING = ("params.yaml", "dvc.yaml", "mlc.lock", ":(glob)*.dvc", "mlc", "flows")


def state(root: Path) -> GitState:
    """What is checked out, and what is not committed.

    dvc.lock does not count: its hash has its own place in the manifest, and every run rewrites it. Untracked files
    count where code is imported from, and among the settings and pointers that decide; ignored ones as well, where
    Python would import them. A file that git was told to leave unlooked at (``assume-unchanged``, ``skip-worktree``)
    counts as changed.
    """
    commit = _output(root, "rev-parse", "--verify", "HEAD")  # None before the first commit, too
    if commit is None:
        return GitState(commit=None, dirty=False, changed=[])
    names = git(root, "diff", "-z", "--name-only", "--no-renames", "--relative", "HEAD", "--")
    names += git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", *DECIDING)
    ignored = git(root, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--", *DECIDING).split("\0")
    flagged = git(root, "ls-files", "-z", "-v", "--", *DECIDING).split("\0")
    changed = {
        *names.split("\0"),
        *(name for name in ignored if Path(name).suffix in (".py", ".so", ".yaml", ".lock", ".dvc")),
        *(entry[2:] for entry in flagged if (entry[:1].islower() or entry[:1] == "S") and (root / entry[2:]).exists()),
    } - {"", "dvc.lock"}
    return GitState(commit=commit, dirty=bool(changed), changed=sorted(changed))


def is_commit(root: Path, commit: str) -> bool:
    """Whether the repository has this commit."""
    return _output(root, "cat-file", "-e", f"{commit}^{{commit}}") is not None


def keep_commits(root: Path, name: str, commits: Iterable[str]) -> None:
    """Keeps commits from being collected, whatever becomes of their branches: a ref ``refs/mlc/NAME/COMMIT`` for
    each that the repository has.

    Raises:
        MlcError: git cannot write the refs.
    """
    for commit in filter(partial(is_commit, root), commits):
        git(root, "update-ref", f"refs/mlc/{name}/{commit}", commit)


def current_user(root: Path) -> str | None:
    """Who works here, for what people decide: the tracking server's user, or git's user.name; None for neither."""
    return os.environ.get("MLFLOW_TRACKING_USERNAME") or _output(root, "config", "user.name") or None
