"""A tiny random base model and a handful of the embedded world's alignment prompts."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, Qwen3Config

from mlc.embedded.base import draw, train_tokenizer
from mlc.embedded.prompts import rows
from mlc.embedded.world import combinations
from mlc.prompts.schema import PromptRow


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of 32 dimensions over a tokenizer of 700, with random weights."""
    folder = tmp_path_factory.mktemp("tiny") / "base"
    rng = random.Random(0)
    tokenizer = train_tokenizer([draw(rng, combinations("alignment")) for _ in range(500)], 700)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def tiny(tiny_base: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return AutoModelForCausalLM.from_pretrained(tiny_base).eval(), AutoTokenizer.from_pretrained(tiny_base)


@pytest.fixture(scope="session")
def alignment_rows() -> list[PromptRow]:
    """Sixteen rows, harmful and benign in turn."""
    return rows("alignment")[:16]
