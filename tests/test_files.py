"""Files are whole or not there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mlc.files import replacing, write_json, write_jsonl


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write_jsonl(path, [{"a": 1}])

    def rows() -> object:
        yield {"a": 2}
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_jsonl(path, rows())  # type: ignore[arg-type]
    assert path.read_text() == '{"a": 1}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for content in ("one", "two"):
        with replacing(path) as aside:
            aside.mkdir()
            (aside / content).touch()
    assert [p.name for p in path.iterdir()] == ["two"]
    with pytest.raises(RuntimeError), replacing(path) as aside:
        aside.mkdir()
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_what_killed_processes_left_is_removed_and_what_others_write_is_not(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    mine, gone, alive = (f".model.{pid}.partial" for pid in (os.getpid(), dead.pid, os.getppid()))
    for name in (mine, gone, alive):
        (tmp_path / name / "weights").mkdir(parents=True)
    with replacing(tmp_path / "model") as aside:
        aside.mkdir()  # fails where an earlier process of this number has left one
    assert sorted(p.name for p in tmp_path.iterdir()) == [alive, "model"]


def test_json_is_strict(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())
