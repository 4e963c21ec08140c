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


PANELS = ("Run", "Data", "Model", "Gate and judge", "Registry", "Project")


def commands(group: Any, name: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for word, command in group.commands.items():
        yield (*name, word), command
        if hasattr(command, "commands"):
            yield from commands(command, (*name, word))


ALL = dict(commands(typer.main.get_command(app)))


HEAVY = ("torch", "transformers", "mlflow", "prefect", "great_expectations", "dvc", "pandas", "numpy", "scipy")


def imported(code: str, heavy: tuple[str, ...], folder: Path) -> list[str]:
    """What of ``heavy`` a process that runs the code has imported at its end; what it prints is left out."""
    script = f"import io, sys\nfrom contextlib import redirect_stdout\nwith redirect_stdout(io.StringIO()):\n{code}"
    script += f"\nprint(*(name for name in {heavy} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_no_help_imports_anything_heavy(tmp_path: Path) -> None:
    code = """
    from mlc.cli import app
    for words in (["--help"], ["gate", "--help"], ["gate", "explain", "--help"], ["status", "--help"], ["--version"]):
        try:
            app(words)
        except SystemExit as ended:
            assert ended.code == 0, words
"""
    assert imported(code, (*HEAVY, "pydantic"), tmp_path) == []


def called(name: tuple[str, ...], command: Any) -> list[str]:
    """A command with something for whatever it cannot do without."""
    arguments = list(name)
    for parameter in (p for p in command.params if p.required):
        arguments += parameter.opts[:1] if parameter.param_type_name == "option" else []
        choices = parameter.type_descriptor.choices
        arguments.append(choices[0].value if choices else "1")
    return arguments


# They need no params.yaml: they make a project, examine the folder, or read one file, and say where that is missing.
FREE = ("init", "configure", "doctor", "embedded", "translate", "data", "quarantine list", "quarantine release")
FREE += ("quarantine fix", "gate explain")


def test_outside_a_project_a_command_says_so_before_it_imports_what_it_runs(tmp_path: Path) -> None:
    run = {name: c for name, c in ALL.items() if not hasattr(c, "commands") or name == ("gate",)}
    commands = [called(name, c) for name, c in run.items() if not " ".join(name).startswith(FREE)]
    code = f"""
    from mlc.cli import app
    from mlc.errors import MlcError
    for words in {commands}:
        try:
            app(words)
        except MlcError as error:
            assert str(error) == "params.yaml does not exist: run mlc in the folder that holds params.yaml", words
        else:
            raise AssertionError(words)
"""
    assert len(commands) > 25
    assert imported(code, HEAVY, tmp_path) == []


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    limited = f"ulimit -f 4; exec {shlex.quote(str(MLC))} embedded prompts out"  # files of 4 kB at most
    done = subprocess.run(["bash", "-c", limited], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 5
    assert re.fullmatch(r"mlc: (File too large|No space left on device): free some space, .*\n", done.stderr)
    assert [f.name for f in (tmp_path / "out").iterdir()] == [".lock.partial"]


def test_every_command_is_in_a_group_of_the_help() -> None:
    help_text = CliRunner().invoke(app, ["--help"]).stdout
    assert all(f"─ {panel} ─" in help_text for panel in PANELS) and "─ Commands ─" not in help_text
    assert "Exit codes:" in help_text


@pytest.mark.parametrize("name", ALL, ids=" ".join)
def test_every_command_says_what_it_does(name: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*name, "--help"])
    assert done.exit_code == 0 and (ALL[name].help or "").strip()


@pytest.mark.parametrize("name", [n for n, c in ALL.items() if c.epilog], ids=" ".join)
def test_the_examples_are_commands_with_options_that_exist(name: tuple[str, ...]) -> None:
    for example in re.split(r"; |\|\|? ", ALL[name].epilog.removeprefix("Example: ")):
        tokens = shlex.split(example)
        if tokens[0] != "mlc":
            continue
        own = next(ALL[tuple(tokens[1:n])] for n in (3, 2) if tuple(tokens[1:n]) in ALL)
        options = {option for parameter in own.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {token for token in tokens if token.startswith("-")} <= options


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
        stderr = capsys.readouterr().err
        assert ("Traceback" in stderr) == traced and stderr.endswith("mlc: a mistake\n")


def test_the_shell_completes_commands() -> None:
    variables = {"_MLC_COMPLETE": "complete_bash", "COMP_WORDS": "mlc qua", "COMP_CWORD": "1"}
    done = subprocess.run([MLC], env={**os.environ, **variables}, capture_output=True, text=True)
    assert done.stdout.split() == ["quarantine"], done.stderr


def test_the_documentation_knows_every_command_and_exit_code() -> None:
    page = (Path(__file__).parents[1] / "docs/cli.md").read_text()
    missing = [name for name in ALL if len(name) == 1 and f"`mlc {name[0]}" not in page]
    assert not missing
    for code in re.findall(r"(?:^|· )(\d+) ", cli.EXIT_CODES.removeprefix("Exit codes: ")):
        assert f"| {code} |" in page
