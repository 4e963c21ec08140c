"""Two commands at once: the second waits, says so, and works on what the first has left. Nothing of either is lost.

The first one is stopped right before it puts a file in its place: what it has read is old by then, if nobody waits.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from ruamel.yaml import YAML

from mlc.embedded import prompts
from mlc.files import replacing
from mlc.prompts.changing import changing
from mlc.prompts.schema import read_prompts, write_prompts

ROOT = Path(__file__).parents[1]
MLC = """
import os, sys

def pause(event, arguments, stops=[sys.argv[1]]):
    if event == "os.rename" and os.path.basename(arguments[1]) in stops:
        stops.clear()
        print("about to write", flush=True)
        sys.stdin.read()

sys.addaudithook(pause)
sys.argv[:2] = ["mlc"]
from mlc.cli import main
main()
"""
ECHO = """
import json, pathlib, sys, time
while sys.argv[1:] and not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.02)
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps({"id": request["id"], "translation": f"{request['target']}: {request['text'].upper()}"}))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    write_prompts(folder / "data/evaluation.jsonl", prompts.rows("evaluation")[:8])
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "echo.py").write_text(ECHO)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


@contextmanager
def mlc(folder: Path, *arguments: str, stop_at: str = "") -> Iterator[subprocess.Popen[str]]:
    """Starts a command, whose end the block sees; with ``stop_at`` it waits, right before a file of that name is put
    in its place, for the end of its standard input."""
    command = [sys.executable, "-c", MLC, stop_at, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()  # nothing, where it has ended


def importing(folder: Path, name: str, count: int = 3) -> list[str]:
    """A table of requests of its own, and the arguments that import it into the evaluation set."""
    table, mapping = folder / f"{name}.csv", folder / f"{name}.yaml"
    lines = [f"{number},How do I mend the {name} number {number}?" for number in range(count)]
    table.write_text("\n".join(["id,text", *lines]) + "\n")
    columns = {"id": "id", "intent": "benign", "prompts": {"en": "text"}}
    YAML().dump({"source": name, "licence": "MIT", "format": "csv"} | columns, mapping)
    return ["import", mapping.name, table.name, "--into", "data/evaluation.jsonl"]


def translating(language: str, *wait_for: str) -> list[str]:
    program = " ".join([sys.executable, "echo.py", *wait_for])
    arguments = ["--languages", language, "--run", program, "--command-version", "1"]
    return ["translate", "command", "data/evaluation.jsonl", *arguments]


class Both(NamedTuple):
    """How two commands that ran at once ended; ``waited`` is what the second said while it waited."""

    codes: tuple[int, int]
    waited: str
    output: str


def together(folder: Path, file: str, first: list[str], second: list[str]) -> Both:
    """Runs the second while the first is about to write ``file``."""
    with mlc(folder, *first, stop_at=file) as one:
        assert one.stdout is not None
        while (line := one.stdout.readline()) != "about to write\n":
            assert line, one.communicate()
        with mlc(folder, *second) as two:
            assert two.stderr is not None
            # Nothing, where it did not wait and has ended; progress bars end with no newline.
            waited = next((line for line in two.stderr if "another mlc" in line), "")
            ends = [*one.communicate(timeout=120), *two.communicate(timeout=120)]
    return Both((one.returncode, two.returncode), waited, "\n".join(ends))


def test_two_imports(project: Path) -> None:
    both = together(project, "evaluation.jsonl", importing(project, "bicycle"), importing(project, "kettle"))
    assert both.codes == (0, 0), both
    assert "prompts: another mlc is changing prompt sets in " in both.waited, both
    assert [row.source for row in read_prompts(project / "data/evaluation.jsonl")].count("bicycle") == 3
    assert len(read_prompts(project / "data/evaluation.jsonl")) == 8 + 3 + 3


def fixing(row_id: str) -> list[str]:
    why = ["--text", "Ninawezaje kuoka mkate?", "--why", "a typo", "--who", "Amina"]
    return ["quarantine", "fix", "evaluation", row_id, "sw", *why]


@pytest.mark.parametrize("fix_first", [False, True])
def test_an_import_beside_a_fix(project: Path, fix_first: bool) -> None:
    row_id = read_prompts(project / "data/evaluation.jsonl")[2].id
    commands = [importing(project, "kettle"), fixing(row_id)]
    both = together(project, "evaluation.jsonl", *(reversed(commands) if fix_first else commands))
    assert both.codes == (0, 0) and "waiting for it" in both.waited, both
    rows = {row.id: row for row in read_prompts(project / "data/evaluation.jsonl")}
    assert rows[row_id].prompts["sw"] == "Ninawezaje kuoka mkate?" and len(rows) == 8 + 3
    assert len((project / "data/fixes.jsonl").read_text().splitlines()) == 1


def test_two_translations(project: Path) -> None:
    both = together(project, "evaluation.jsonl", translating("xh"), translating("zu"))
    assert both.codes == (0, 0) and "waiting for it" in both.waited, both
    for row in read_prompts(project / "data/evaluation.jsonl"):
        assert (row.prompts["xh"], row.prompts["zu"]) == tuple(
            f"{t}: {row.prompts['en'].upper()}" for t in ("xh", "zu")
        )


def test_nobody_waits_for_a_translator_and_what_others_did_meanwhile_stays(project: Path) -> None:
    with mlc(project, *translating("xh", "go")) as translation:
        cache = project / ".cache/translations/translations.sqlite"
        while not cache.exists():  # from then on it asks
            assert translation.poll() is None
            time.sleep(0.02)
        with mlc(project, *importing(project, "kettle")) as other:
            _, errors = other.communicate(timeout=120)
        assert other.returncode == 0 and "waiting for it" not in errors, errors
        (project / "go").touch()
        translation.communicate(timeout=120)
    assert translation.returncode == 0
    rows = read_prompts(project / "data/evaluation.jsonl")
    assert [row.source for row in rows].count("kettle") == 3
    assert sum("xh" in row.prompts for row in rows) == 8


def test_a_failure_is_still_written_down_after_another_translation(project: Path) -> None:
    row = read_prompts(project / "data/evaluation.jsonl")[0]
    write_prompts(project / "data/evaluation.jsonl", [row.model_copy(update={"prompts": {"en": "Print {name}."}})])
    with mlc(project, *translating("xh")) as one:
        one.communicate(timeout=120)
    assert one.returncode == 6  # the placeholder is in capitals now
    with mlc(project, *translating("zu"), "--keep-flagged") as two:
        two.communicate(timeout=120)
    assert two.returncode == 0
    lines = (project / "data/evaluation.failures.jsonl").read_text().splitlines()
    assert [json.loads(line)["language"] for line in lines] == ["xh"]


def test_two_configures(project: Path) -> None:
    (project / "one.yaml").write_text("train: {seed: 11}\n")
    (project / "two.yaml").write_text("evaluate: {max_new_tokens: 33}\n")
    both = together(project, "params.yaml", ["configure", "one.yaml"], ["configure", "two.yaml"])
    assert both.codes == (0, 0) and both.waited.startswith("settings: another mlc is changing those of "), both
    settings = YAML(typ="safe", pure=True).load(project / "params.yaml")
    assert (settings["train"]["seed"], settings["evaluate"]["max_new_tokens"]) == (11, 33)


def test_two_inits(tmp_path: Path) -> None:
    flags = ["--model", "someone/model", "--revision", "a" * 40, "--served", "en,sw", "--yes"]
    both = together(tmp_path, ".gitignore", ["init", "new", *flags], ["init", "new", *flags])
    assert both.codes == (0, 2) and "settings: another mlc" in both.waited, both
    assert "this is a project already" in both.output


def test_what_a_killed_command_left_is_removed_by_the_next_and_a_living_ones_is_not(tmp_path: Path) -> None:
    left = tmp_path / ".releases.jsonl.abcdefgh.partial"
    left.mkdir()
    with replacing(tmp_path / "alignment.jsonl") as aside:
        with changing(tmp_path):  # the command need not write the same file, or any
            assert not left.exists() and aside.parent.exists()
        aside.write_text("{}")
    assert (tmp_path / "alignment.jsonl").read_text() == "{}"
