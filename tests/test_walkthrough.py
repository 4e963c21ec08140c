"""The walk-through for somebody's own model does what it says, word for word, on a tiny model of another kind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.slow
def test_your_own_model(own: Path) -> None:
    page = (ROOT / "docs/your-model.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    script = "set -e\n" + "".join(blocks).replace("mlc run\n", "mlc run || test $? -eq 3\n")
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_TRACKING", "GIT_"))}
    env |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}", "EMAIL": "t@example.org"}
    env |= {f"GIT_{role}_{what}": "t@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(["bash", "-c", script], cwd=own, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Refused" in done.stdout and "longer" in done.stdout
    assert (own / "assistant/artifacts/report/index.html").exists()
