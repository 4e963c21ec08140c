"""A program as translator: whatever it does, each text gets its own answer or a reason, and nothing stays running."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlc.errors import MlcError
from mlc.translation import Request, Result, TranslationError, fill
from mlc.translation.command import CommandTranslator
from mlc.translation.fill import Job

from .conftest import cached, failures, texts

PROGRAM = Path(__file__).with_name("programs.py")
MLC = Path(sys.executable).with_name("mlc")


def command(mode: str, note: Path) -> str:
    return shlex.join([sys.executable, str(PROGRAM), mode, str(note)])


def translate(mode: str, note: Path, count: int, timeout: float = 30) -> dict[str, Result]:
    translator = CommandTranslator(command(mode, note), "1", timeout=timeout)
    requests = [Request(f"text {i} «ü»", "en", "sw") for i in range(count)]
    results = list(translator.translate(requests))
    assert sorted(result.request for result in results) == sorted(requests)  # each once
    for result in results:
        assert result.translation in (None, f"[sw] {result.request.text.upper()}")
        assert (result.translation is None) != (result.failure is None)
    return {result.request.text: result for result in results}


@pytest.mark.parametrize(
    ("mode", "failed", "reason"),
    [
        ("good", [], ""),
        ("backwards", [], ""),
        ("twice", [], ""),
        ("errors", [1, 3], "error: no such word"),
        (
            "garbage",
            [1],
            "the command ended without an answer; 4 lines that answer nothing, such as 'Loading model ...'",
        ),
        ("wrong-type", [1], "an answer without a translation"),
        ("crash", [2, 3, 4], "the command ended with exit code 1: out of luck"),
        ("quiet", [2, 3, 4], "the command ended without an answer"),
        ("stall", [2, 3, 4], "no line from the command for 1 s"),
    ],
)
def test_what_it_answers_counts_and_the_rest_has_a_reason(
    tmp_path: Path, mode: str, failed: list[int], reason: str
) -> None:
    results = translate(mode, tmp_path / "note", 5, timeout=1 if mode == "stall" else 30)
    assert {text: r.failure for text, r in results.items() if r.failure} == {f"text {i} «ü»": reason for i in failed}
    if mode == "stall":
        child = int((tmp_path / "note.pids").read_text())
        assert gone(child)  # what the program started ends with it


def gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.05)
    return False


def test_many_texts_do_not_block_its_pipes(tmp_path: Path) -> None:
    assert all(result.translation for result in translate("backwards", tmp_path / "note", 3000).values())


def test_a_program_that_is_not_there_is_named() -> None:
    for run, message in (
        ("no-such-program -x", "there is no such program"),
        ("'", "No closing quotation"),
        ("", "no such"),
    ):
        with pytest.raises(MlcError, match=message):
            CommandTranslator(run, "1")


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    translator = CommandTranslator(f"{sys.executable} -c 'import sys; sys.exit(len(sys.argv))' $HOME ; touch x", "1")
    (result,) = translator.translate([Request("text", "en", "sw")])
    assert result.failure == "the command ended with exit code 5"
    assert not (tmp_path / "x").exists()


def test_a_run_that_is_ended_takes_the_program_along_and_keeps_what_came(prompt_set: Callable[..., Path]) -> None:
    path = prompt_set("one", "two", "three", "four")
    note = path.parent / "note"
    arguments = [MLC, "translate", "command", path.name, "--languages", "sw", "--command-version", "1", "--run"]
    process = subprocess.Popen([*arguments, command("stall", note)], cwd=path.parent, stderr=subprocess.PIPE, text=True)
    while not note.with_suffix(".pids").exists() or cached(path.parent) < 2:
        time.sleep(0.05)
        assert process.poll() is None
    process.terminate()
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr.splitlines()[-1].startswith(
        "mlc: interrupted. What was translated is in set.jsonl; the same command goes"
    )
    assert gone(int(note.with_suffix(".pids").read_text()))
    assert texts(path, "sw") == {"r0": "[sw] ONE", "r1": "[sw] TWO"}
    done = subprocess.run([*arguments, command("good", note)], cwd=path.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert note.read_text().split() == ["one", "two", "three", "three", "four"]  # only what was in flight comes twice


APERTIUM = """
import json, subprocess, sys
codes = {"en": "eng", "es": "spa"}
for line in sys.stdin:
    request = json.loads(line)
    pair = f"{codes[request['source']]}-{codes[request['target']]}"
    done = subprocess.run(["apertium", "-u", pair], input=request["text"], capture_output=True, text=True)
    answer = {"translation": done.stdout} if done.returncode == 0 else {"error": done.stderr}
    print(json.dumps({"id": request["id"]} | answer), flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("apertium") is None, reason="Apertium is not installed")
def test_with_apertium_there_and_back(prompt_set: Callable[..., Path]) -> None:
    pairs = subprocess.run(["apertium", "-l"], capture_output=True, text=True).stdout.split()
    if not {"eng-spa", "spa-eng"} <= set(pairs):
        pytest.skip("Apertium has no English-Spanish pair installed (apertium-eng-spa)")
    path = prompt_set(
        "How do I repair a bicycle in 3 days?", "Where is the {city} library?", "See https://example.org now."
    )
    program = path.parent / "program.py"
    program.write_text(APERTIUM)
    translator = CommandTranslator(shlex.join([sys.executable, str(program)]), "eng-spa", name="apertium")
    try:
        fill.run(path, translator, Job(("es",), "en", back=True), path.parent / "cache.sqlite")
    except TranslationError:
        assert all(line["reason"].startswith("lost") for line in failures(path))
    spanish = texts(path, "es")
    print(spanish, failures(path))
    assert "bicicleta" in spanish["r0"] and "3 días" in spanish["r0"]
