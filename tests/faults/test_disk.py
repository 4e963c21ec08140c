"""A disk that is full in every writer, and folders that cannot be written to; then it can, and runs again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cases import Case
from harness import Project
from invariants import Table
from test_kills import KILLED, Killed

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]
AMPLE = 256 << 20  # bytes
WRITERS = tuple(killed for killed in KILLED if not killed.command.startswith("registry"))


def mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0


@pytest.fixture
def small(project: Project) -> Iterator[Project]:
    """The project on a file system of its own, whose size can be set."""
    project.root.mkdir(exist_ok=True)
    if not mount("-t", "tmpfs", "-o", f"size={AMPLE}", "none", str(project.root)):
        pytest.skip("mounting a tmpfs takes root")
    yield project
    subprocess.run(["umount", str(project.root)], check=True)


def used(root: Path) -> int:
    disk = os.statvfs(root)
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize


def resize(root: Path, size: int) -> None:
    assert mount("-o", f"remount,size={size}", str(root))


@pytest.mark.parametrize("killed", WRITERS, ids=[f"{k.command}, {k.kept}" for k in WRITERS])
def test_a_full_disk_is_one_line_and_no_harm(small: Project, table: Table, killed: Killed) -> None:
    case = Case(small, table, killed.command, killed.kept, killed.files)
    after = used(small.root)
    small.restore(killed.kept)
    before = used(small.root)
    for share in (0.02, 0.5, 0.9):
        small.restore(killed.kept)
        resize(small.root, before + max(4096, int(share * (after - before))))
        ended = small.mlc(*case.arguments)
        resize(small.root, AMPLE)
        wrong = []
        if ended.code and not (ended.code == 5 and ended.explained):
            wrong.append(f"it ends with {ended.code}: {ended.output[-2000:]}")
        case.check("disk full", ended, f"{share:.0%} of the space it takes", *wrong, hit=ended.code != 0)
    case.assert_nothing_found()


READ_ONLY = (("train", "before train", ".cache"), ("register", "second", "mlflow"), ("gate", "second", "artifacts"))


@pytest.mark.parametrize(("command", "kept", "folder"), READ_ONLY)
def test_a_read_only_folder_is_one_line_and_no_harm(
    project: Project, table: Table, command: str, kept: str, folder: str
) -> None:
    case = Case(project, table, command, kept, ())
    project.restore(kept)
    path = project.root / folder
    path.mkdir(exist_ok=True)
    if not mount("--bind", str(path), str(path)):
        pytest.skip("mounting takes root")
    try:
        assert mount("-o", "remount,bind,ro", str(path))
        ended = project.mlc(*case.arguments)
    finally:
        subprocess.run(["umount", str(path)], check=True)
    wrong = [] if ended.explained or not ended.code else [f"it ends with {ended.code}: {ended.output[-2000:]}"]
    case.check(f"read-only {folder}", ended, "read-only", *wrong, hit=ended.code != 0)
    case.assert_nothing_found()
