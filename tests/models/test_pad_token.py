"""A tokenizer without a pad token, as Llama 3, Mistral and GPT-2 have: all works as with one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mlc.evaluation.diagnostics import represent
from mlc.models.generation import generate, reference_nll
from mlc.models.inference import load
from mlc.prompts.schema import PromptRow

TAGS = ("en", "hi")


def test_replies_likelihoods_and_representations_are_the_same(
    base_without_pad_token: Path, tiny_base: Path, alignment_rows: list[PromptRow]
) -> None:
    found = []
    for folder in (base_without_pad_token, tiny_base):
        model, tokenizer = load(folder, None, "float32")
        asked = [row.prompts[tag] for row in alignment_rows for tag in TAGS]
        replies = [(reply.text, reply.tokens) for reply in generate(model, tokenizer, asked, 8, 200, "replies")]
        chosen = [str(row.chosen) for row in alignment_rows]
        prompts = [row.prompts["en"] for row in alignment_rows]
        likelihoods = [nll for batch in reference_nll(model, tokenizer, prompts, chosen, 200) for nll in batch]
        found.append((replies, likelihoods, represent(alignment_rows, TAGS, "base", -1, (model, tokenizer), 200)))
    assert found[0][0] == found[1][0] and found[0][1] == found[1][1]
    np.testing.assert_array_equal(found[0][2], found[1][2])
