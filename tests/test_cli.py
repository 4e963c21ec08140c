"""The command line: instant, and one line instead of a stack trace when something is wrong."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mlc import cli
from mlc.cli import app
from mlc.errors import MlcError

MLC = Path(sys.executable).parent / "mlc"


def test_help_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'mlflow', 'prefect', 'great_expectations', 'dvc', 'pandas', 'pydantic'}"
    code = f"import sys, mlc.cli; loaded = {heavy} & set(sys.modules); sys.exit(', '.join(loaded) or 0)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_outside_a_project_it_says_where_to_run(tmp_path: Path) -> None:
    done = subprocess.run([MLC, "validate"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "mlc: params.yaml does not exist: run mlc in the folder that holds params.yaml\n"


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    limited = f"ulimit -f 4; exec {shlex.quote(str(MLC))} embedded prompts out"  # files of 4 kB at most
    done = subprocess.run(["bash", "-c", limited], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 5
    assert done.stderr == "mlc: File too large: free some space, then run the same command again\n"
    assert list((tmp_path / "out").iterdir()) == []


PANELS = ("Run", "Data", "Model", "Gate and judge", "Registry", "Project")


def commands(group: Any, name: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for word, command in group.commands.items():
        yield (*name, word), command
        if hasattr(command, "commands"):
            yield from commands(command, (*name, word))


ALL = dict(commands(typer.main.get_command(app)))


def test_every_command_is_in_a_group_of_the_help() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert all(f"─ {panel} ─" in shown for panel in PANELS) and "─ Commands ─" not in shown
    assert "Exit codes:" in shown


@pytest.mark.parametrize("name", ALL, ids=" ".join)
def test_every_command_says_what_it_does(name: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*name, "--help"])
    assert done.exit_code == 0 and (ALL[name].help or "").strip()


@pytest.mark.parametrize("name", [n for n, c in ALL.items() if c.epilog], ids=" ".join)
def test_the_examples_are_commands_with_options_that_exist(name: tuple[str, ...]) -> None:
    for example in re.split(r"; |\|\|? ", ALL[name].epilog.removeprefix("Example: ")):
        words = shlex.split(example)
        if words[0] != "mlc":
            continue
        own = next(ALL[tuple(words[1:n])] for n in (3, 2) if tuple(words[1:n]) in ALL)
        options = {option for parameter in own.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("-")} <= options


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> int:
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(str(caught.value.code))


def test_a_fault_of_its_own_is_a_line_and_a_file_with_the_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLC_DEBUG", raising=False)
    (tmp_path / "params.yaml").touch()
    assert failing(monkeypatch, KeyError("what it was")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mlc: unexpected KeyError: 'what it was' (the whole trace is in .cache/mlc/errors/mlc-")
    (file,) = (tmp_path / ".cache/mlc/errors").iterdir()
    assert file.name in line and "Traceback (most recent call last)" in file.read_text()


def test_a_mistake_shows_its_trace_with_debug_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for debug, traced in (("", False), ("1", True)):
        monkeypatch.setenv("MLC_DEBUG", debug)
        assert failing(monkeypatch, MlcError("a mistake")) == 2
        shown = capsys.readouterr().err
        assert ("Traceback" in shown) == traced and shown.endswith("mlc: a mistake\n")


def test_the_shell_completes_commands() -> None:
    asked = {"_MLC_COMPLETE": "complete_bash", "COMP_WORDS": "mlc qua", "COMP_CWORD": "1"}
    done = subprocess.run([MLC], env={**os.environ, **asked}, capture_output=True, text=True)
    assert done.stdout.split() == ["quarantine"], done.stderr


def test_the_documentation_knows_every_command_and_exit_code() -> None:
    page = (Path(__file__).parents[1] / "docs/cli.md").read_text()
    missing = [name for name in ALL if len(name) == 1 and f"`mlc {name[0]}" not in page]
    assert not missing
    for code in re.findall(r"(?:^|· )(\d+) ", cli.EXIT_CODES.removeprefix("Exit codes: ")):
        assert f"| {code} |" in page
