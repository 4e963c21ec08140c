"""The command line: instant, and one line instead of a stack trace when something is wrong."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from mlc.cli import app

MLC = Path(sys.executable).parent / "mlc"


def test_help_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'mlflow', 'prefect', 'great_expectations', 'dvc', 'pandas', 'pydantic'}"
    code = f"import sys, mlc.cli; loaded = {heavy} & set(sys.modules); sys.exit(', '.join(loaded) or 0)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_stage_and_command_is_listed() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    for command in (
        "validate",
        "base",
        "trust",
        "train",
        "evaluate",
        "gate",
        "register",
        "report",
        "run",
        "registry",
        "quarantine",
    ):
        assert command in shown


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
