"""Files are whole or not there."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import ClassVar

import pytest

from mlc.errors import MlcError
from mlc.files import JsonFile, replacing, write_json, write_jsonl


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


class Note(JsonFile):
    VERSION: ClassVar[int] = 2

    text: str
    count: int | None = None


def test_a_file_of_a_newer_version_is_refused_and_an_older_one_is_read(tmp_path: Path) -> None:
    path = tmp_path / "note.json"
    Note(schema_version=Note.VERSION, text="a").write(path)
    assert json.loads(path.read_text()) == {"schema_version": 2, "text": "a"}
    assert Note.read(path, "mlc note") == Note(schema_version=2, text="a")
    path.write_text('{"schema_version": 3, "text": "a", "more": 1}')
    with pytest.raises(MlcError, match=r"note\.json has schema version 3, and this mlc reads up to 2: install"):
        Note.read(path, "mlc note")
    path.write_text('{"text": "a", "count": null}')  # from before versions were written
    old = Note.read(path, "mlc note")
    assert old.schema_version == 0 and old.content() == {"text": "a", "count": None}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not valid JSON"),
        ("[]", "holds no JSON object"),
        ("{}", r"field text: Field required: run `mlc note` again"),
        ('{"text": 1}', r"field text: .*string"),
        ('{"text": "a", "count": "1"}', r"field count: .*integer"),
        ('{"text": "a", "txet": "b"}', r"field txet: .*not permitted"),
        ('{"schema_version": "2", "text": "a"}', r"field schema_version: .*integer"),
    ],
)
def test_what_is_wrong_with_a_file_is_named_with_its_field(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "note.json"
    path.write_text(content)
    with pytest.raises(MlcError, match=message):
        Note.read(path, "mlc note")
