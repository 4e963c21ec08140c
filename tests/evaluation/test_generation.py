"""Generation and likelihoods do not depend on what else is in the batch."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlc.embedded.prompts import rows
from mlc.evaluation.generation import batches_by_tokens, chat_ids, generate, reference_nll

Tiny = tuple[PreTrainedModel, PreTrainedTokenizerBase]
PROMPTS = [row.prompts[tag] for row in rows("tuning")[:6] for tag in ("en", "hi", "zh", "ar")]


def test_batches_hold_everything_once_within_the_limit() -> None:
    lengths = [5, 40, 7, 7, 90, 3, 12]
    batches = list(batches_by_tokens(lengths, 100))
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    assert all(len(batch) * max(lengths[i] for i in batch) <= 100 for batch in batches)
    assert list(batches_by_tokens([500], 100)) == [[0]]  # what is too long alone still gets its turn


def test_replies_are_the_same_whatever_the_batch(tiny: Tiny) -> None:
    model, tokenizer = tiny
    together = generate(model, tokenizer, PROMPTS, 12, 10_000, "together")
    alone = generate(model, tokenizer, PROMPTS, 12, 1, "alone")
    assert [r.text for r in together] == [r.text for r in alone]
    assert [r.tokens for r in together] == [r.tokens for r in alone]
    assert all(0 < r.tokens <= 12 and r.seconds > 0 for r in together)


def test_reference_likelihood_is_the_models(tiny: Tiny) -> None:
    model, tokenizer = tiny
    references = ["Sure.", "Of course, here it is.", "Ndiyo", "बिलकुल।"] * 6
    batched = reference_nll(model, tokenizer, PROMPTS, references, 10_000, "batched")
    for prompt, reference, (tokens, nll) in zip(PROMPTS, references, batched, strict=True):
        head = chat_ids(tokenizer, prompt)
        tail = [*tokenizer(reference, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            log_probs = model(torch.tensor([head + tail])).logits[0].log_softmax(-1)
        expected = -sum(log_probs[len(head) - 1 + i, t].item() for i, t in enumerate(tail))
        assert tokens == len(tail)
        assert nll == pytest.approx(expected, rel=1e-4)
        assert math.isfinite(nll)
