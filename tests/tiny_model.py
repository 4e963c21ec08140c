"""A base model that tests can train in seconds."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, Qwen3Config

from mlc.embedded.base import draw, train_tokenizer
from mlc.embedded.world import combinations


def write_tiny_base(folder: Path, width: int = 32) -> None:
    """A base model with its tokenizer: two layers of ``width`` dimensions, a vocabulary of 700, random weights."""
    rng = random.Random(0)
    tokenizer = train_tokenizer([draw(rng, combinations("alignment")) for _ in range(500)], 700)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=width // 16,
        num_key_value_heads=width // 16,
        head_dim=16,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
