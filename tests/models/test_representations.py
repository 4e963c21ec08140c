"""Representations stand at the last prompt token, whatever the padding around it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlc.models.generation import chat_ids, padded
from mlc.models.representations import chunks, collate_variants, encode, encode_chunks
from mlc.prompts.schema import PromptRow

Tiny = tuple[PreTrainedModel, PreTrainedTokenizerBase]


@pytest.mark.parametrize("layer", [1, 2, -1])
def test_padding_changes_nothing(tiny: Tiny, alignment_rows: list[PromptRow], layer: int) -> None:
    model, tokenizer = tiny
    prompts = [chat_ids(tokenizer, row.prompts[tag]) for row in alignment_rows[:3] for tag in ("en", "hi", "zh")]
    ids, mask = padded(prompts, tokenizer.pad_token_id, "left")
    wide = torch.cat([torch.full((len(ids), 7), tokenizer.pad_token_id), ids], 1)
    wide_mask = torch.cat([torch.zeros(len(ids), 7, dtype=torch.long), mask], 1)
    with torch.no_grad():
        batched = encode(model, ids, mask, layer)
        wider = encode(model, wide, wide_mask, layer)
        right = encode(model, *padded(prompts, tokenizer.pad_token_id, "right"), layer)
        chunked = encode_chunks(model, *padded(prompts, tokenizer.pad_token_id, "right"), layer, 30)[:2]
        for i, prompt in enumerate(prompts):
            alone = encode(model, torch.tensor([prompt]), torch.ones(1, len(prompt), dtype=torch.long), layer)
            for together in (batched, wider, right, chunked):
                for a, b in zip(alone, together, strict=True):
                    torch.testing.assert_close(a[0], b[i], atol=1e-5, rtol=1e-4)


def test_layers_are_indices_into_hidden_states(tiny: Tiny) -> None:
    model, _ = tiny
    ids = torch.tensor([[5, 6, 7, 8]])
    mask = torch.ones_like(ids)
    with torch.no_grad():
        states = model(ids, output_hidden_states=True).hidden_states
        logits = model(ids).logits
        for layer, index in ((1, 1), (-1, -1), (2, -1)):
            hidden, next_logits = encode(model, ids, mask, layer)
            torch.testing.assert_close(hidden, states[index][:, -1])
            torch.testing.assert_close(next_logits, logits[:, -1])
    with pytest.raises(ValueError, match="layers 1 to 2"):
        encode(model, ids, mask, 3)


def test_an_adapter_is_seen_through(tiny: Tiny) -> None:
    model, _ = tiny
    ids = torch.tensor([[5, 6, 7, 8]])
    mask = torch.ones_like(ids)
    with torch.no_grad():
        plain = encode(model, ids, mask, 1)
        adapted = get_peft_model(model, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
        torch.testing.assert_close(encode(adapted, ids, mask, 1), plain)


def test_collation_keeps_integers_and_skips_missing_languages() -> None:
    v = collate_variants([[[5, 6], [], [7]], [[8], [9, 10, 11], []]], [True, False], [4, 2], pad=0)
    assert v.ids.tolist() == [[0, 5, 6], [0, 0, 7], [0, 0, 8], [9, 10, 11]]
    assert v.mask.tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 1], [1, 1, 1]]
    assert v.present.tolist() == [[True, False, True], [True, True, False]]
    assert v.ids.dtype == v.row.dtype == torch.int64 and v.harmful.dtype == torch.bool


@given(st.lists(st.integers(1, 300), min_size=1, max_size=80), st.none() | st.integers(1, 2000))
def test_chunks_hold_everything_once_with_little_padding(lengths: list[int], tokens: int | None) -> None:
    parts = list(chunks(lengths, tokens))
    assert sorted(i for part in parts for i in part) == list(range(len(lengths)))
    computed = [len(part) * max(lengths[i] for i in part) for part in parts]
    assert sum(lengths) >= 0.9 * sum(computed)
    if tokens is not None:
        assert all(len(part) == 1 or size <= tokens for part, size in zip(parts, computed, strict=True))
