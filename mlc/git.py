"""What git knows of a project: its commit, what is uncommitted, where it lies in its repository, who works in it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from mlc.errors import MlcError
from mlc.files import JsonPart


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


def state(root: Path) -> GitState:
    """What is checked out, and what is not committed.

    dvc.lock does not count: its hash has its own place in the manifest, and every run rewrites it. Untracked files
    count where code is imported from.
    """
    commit = _output(root, "rev-parse", "--verify", "HEAD")  # None before the first commit, too
    if commit is None:
        return GitState(commit=None, dirty=False, changed=[])
    changed = git(root, "diff", "-z", "--name-only", "--no-renames", "--relative", "HEAD", "--")
    untracked = git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", "mlc", "flows")
    files = sorted(set((changed + untracked).split("\0")) - {"", "dvc.lock"})
    return GitState(commit=commit, dirty=bool(files), changed=files)


def current_user(root: Path) -> str | None:
    """Who works here, for what people decide: the tracking server's user, or git's user.name; None for neither."""
    return os.environ.get("MLFLOW_TRACKING_USERNAME") or _output(root, "config", "user.name") or None
