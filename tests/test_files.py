"""Files are whole or not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest

from mlc.errors import MlcError
from mlc.files import JsonFile, locked, replacing, write_json, write_jsonl


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


WRITER = """
import os, sys, time
from pathlib import Path
from mlc.files import replacing
with replacing(Path("model")) as aside:
    aside.mkdir()
    (aside / "weights").write_text("theirs")
    print("writing", flush=True)
    sys.stdin.read()
"""


def writer(folder: Path) -> subprocess.Popen[str]:
    """A process that is in the midst of writing ``model`` until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    return process


def test_what_killed_processes_left_is_removed_and_what_others_write_is_not(tmp_path: Path) -> None:
    with writer(tmp_path) as killed, writer(tmp_path) as alive:
        killed.kill()
        killed.wait()
        assert len(list(tmp_path.glob(".model.*.partial"))) == 2
        with replacing(tmp_path / "model") as aside:
            aside.mkdir()
        assert len(list(tmp_path.glob(".model.*.partial"))) == 1
        alive.communicate()
        assert alive.returncode == 0
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert (tmp_path / "model/weights").read_text() == "theirs"


def test_a_process_of_the_same_number_elsewhere_is_not_taken_for_a_dead_one(tmp_path: Path) -> None:
    """Containers all begin with process 1, and machines that share a disk count for themselves."""
    with writer(tmp_path) as alive:
        code = WRITER.replace("import os", f"import os; os.getpid = lambda: {alive.pid}; import os")
        code = code.replace("sys.stdin.read()", "")
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
        alive.communicate()
        assert alive.returncode == 0


def test_threads_that_write_the_same_file_do_not_write_into_each_other(tmp_path: Path) -> None:
    barrier = threading.Barrier(4, timeout=30)

    def write(number: int) -> None:
        with replacing(tmp_path / "a") as aside:
            with aside.open("w") as file:
                file.write(str(number) * 1000)
            barrier.wait()
            assert aside.read_text() == str(number) * 1000

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(set((tmp_path / "a").read_text())) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_no_half_of_a_replaced_folder_is_ever_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    for number in range(3):
        (tmp_path / "model" / str(number)).touch()
    seen = []

    def rmtree(_path: Path, **_: object) -> None:  # a kill at this moment leaves what is there now
        seen.append(sorted(p.name for p in (tmp_path / "model").iterdir()))

    monkeypatch.setattr("mlc.files.shutil.rmtree", rmtree)
    with replacing(tmp_path / "model") as aside:
        aside.mkdir()
        (aside / "new").touch()
    assert seen == [["new"]]


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut a name may be there whose content never was."""
    synced: list[str] = []
    fsync = os.fsync

    def seen(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        assert (tmp_path / "a").exists() == (len(synced) > 1)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", seen)
    with replacing(tmp_path / "a") as aside:
        aside.write_text("content")
    assert synced == ["a", tmp_path.name]
    with replacing(tmp_path / "folder") as aside:
        (aside / "in").mkdir(parents=True)
        (aside / "in/weights").touch()
    assert set(synced[2:-1]) == {"in", "weights", "folder"} and synced[-1] == tmp_path.name


HOLDER = """
import sys
from pathlib import Path
from mlc.files import locked
with locked(Path("lock"), "waiting"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_is_waited_for_and_said_so_and_a_kill_gives_it_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        threading.Timer(0.3, holder.kill).start()
        with locked(tmp_path / "lock", "somebody else is at it"):
            assert holder.wait() == -9
    assert capsys.readouterr().err == "somebody else is at it\n"
    with locked(tmp_path / "lock", "again"):
        assert capsys.readouterr().err == ""


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
