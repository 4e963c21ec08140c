"""The example runs as a user runs it, and trains with the objective."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mlc.prompts.schema import PromptRow, write_prompts

ROOT = Path(__file__).parents[1]


def test_the_three_line_example(tiny_base: Path, alignment_rows: list[PromptRow], tmp_path: Path) -> None:
    write_prompts(tmp_path / "prompts.jsonl", alignment_rows)
    command = [sys.executable, "examples/trl_dpo.py", tiny_base, tmp_path / "prompts.jsonl", tmp_path / "out", "4"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "'mlc/loss'" in done.stdout
    assert (tmp_path / "out" / "model.safetensors").exists()
