"""What the two walk-throughs tell people to type, typed: the quickstart on a scaled-down project, and the one for
somebody's own model on a tiny model of another kind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_pipeline import accept_anything, project  # noqa: F401 - the scaled-down project is a fixture

from mlc.embedded import prompts
from mlc.files import write_jsonl

ROOT = Path(__file__).parents[1]
LANGUAGES = ("en", "es", "sw")


@pytest.fixture
def own(tmp_path: Path, tiny_base: Path) -> Path:
    """A folder with a Llama of random weights and the embedded world's requests in three languages."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "my-model")
    tokenizer.save_pretrained(tmp_path / "my-model")
    for name in ("alignment", "tuning", "evaluation"):
        rows = [row.model_dump(exclude_none=True) for row in prompts.rows(name)]
        for row in rows:
            for field in ("prompts", "provenance", "references"):
                if row.get(field):
                    row[field] = {tag: value for tag, value in row[field].items() if tag in LANGUAGES}
        write_jsonl(tmp_path / "my-prompts" / f"{name}.jsonl", rows)
    return tmp_path


def blocks(page: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def typed(script: str, folder: Path) -> str:
    """What a shell prints that runs a script to its end, with this environment's programs first."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_TRACKING", "GIT_"))}
    env |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}", "EMAIL": "t@example.org"}
    env |= {f"GIT_{role}_{what}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(["bash", "-c", f"set -e\n{script}"], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_quickstart(project: Path) -> None:  # noqa: F811
    # The page asks about sw.
    accept_anything(project, languages={"source": "en", "served": ["en", "zh", "sw"], "transfer": []})
    first, *rest = blocks("quickstart.md")
    assert first == "make run\n" and len(rest) > 2
    assert "Promoted" in typed("mlc run", project)
    output = typed("".join(rest).replace(". .venv/bin/activate\n", ""), project)
    for word in ("champion", "safe rate", "Swahili", "plain-dpo"):
        assert word in output, output


@pytest.mark.slow
def test_your_own_model(own: Path) -> None:
    code_blocks = blocks("your-model.md")
    assert len(code_blocks) > 5
    output = typed("".join(code_blocks).replace("mlc run\n", "mlc run || test $? -eq 3\n"), own)
    assert "Refused" in output and "longer" in output
    assert (own / "assistant/artifacts/report/index.html").exists()
