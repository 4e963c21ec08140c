"""Replies and likelihoods depend on the prompt alone: not on what else is in the batch, what ended, or what fitted."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma2Config, PreTrainedModel, PreTrainedTokenizerBase, Qwen3Config

from mlc.embedded.prompts import rows
from mlc.errors import MlcError
from mlc.models.generation import Reply, batches_by_tokens, chat_ids, generate, padded, reference_nll, replies

flat = chain.from_iterable
Tiny = tuple[PreTrainedModel, PreTrainedTokenizerBase]
PROMPTS = [row.prompts[tag] for row in rows("tuning")[:4] for tag in ("en", "hi", "zh", "ar")]
REFERENCES = ["Sure.", "Of course, here it is.", "Ndiyo", "बिलकुल।"] * 4


def forward_calls(model: Any, monkeypatch: pytest.MonkeyPatch, fits: float = math.inf) -> list[int]:
    """The rows of each forward pass from now on; one of more than ``fits`` runs out of memory."""
    forward: Callable[..., Any] = model.forward
    seen: list[int] = []

    def watched(input_ids: torch.Tensor, **rest: Any) -> Any:
        if len(input_ids) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        seen.append(len(input_ids))
        return forward(input_ids=input_ids, **rest)

    monkeypatch.setattr(model, "forward", watched)
    return seen


def texts_and_tokens(generated: dict[int, Reply]) -> list[tuple[str, int]]:
    return [(generated[i].text, generated[i].tokens) for i in range(len(generated))]


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


@pytest.fixture(params=["every layer sees all", "every other layer sees 8 tokens"])
def ending(request: pytest.FixtureRequest, tiny: Tiny) -> tuple[Any, Any, list[list[int]]]:
    """A random model whose replies end at different lengths, its tokenizer, and transformers' own replies."""
    tokenizer: Any = tiny[1]
    torch.manual_seed(0)
    kind: Any = Qwen3Config if request.param == "every layer sees all" else Gemma2Config
    config = kind(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, sliding_window=8, tie_word_embeddings=False, initializer_range=0.5,
        pad_token_id=0, bos_token_id=1, eos_token_id=None,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    ids, mask = padded([chat_ids(tokenizer, prompt) for prompt in PROMPTS], 0, "left")
    new = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=14)[:, ids.shape[1] :]
    stops = {reply[2 + 2 * i] for i, reply in enumerate(new.tolist()[:6])}
    model.generation_config.eos_token_id = sorted(stops)
    ended = [next((row[: i + 1] for i, token in enumerate(row) if token in stops), row) for row in new.tolist()]
    return model, tokenizer, ended


def test_replies_are_those_of_transformers_own_greedy_generation(
    ending: tuple[Any, Any, list[list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer, ended = ending
    assert len(set(map(len, ended))) > 3
    calls = forward_calls(model, monkeypatch)
    generated = dict(flat(replies(model, tokenizer, [chat_ids(tokenizer, prompt) for prompt in PROMPTS], 14, 10_000)))
    texts = tokenizer.batch_decode(ended, skip_special_tokens=True)
    assert texts_and_tokens(generated) == list(zip(texts, map(len, ended), strict=True))
    assert calls[0] == len(PROMPTS) and sorted(calls, reverse=True) == calls and calls[-1] < len(PROMPTS)


def test_the_models_generation_settings_change_nothing(tiny: Tiny) -> None:
    model, tokenizer = tiny
    plain = generate(model, tokenizer, PROMPTS, 12, 10_000, "plain")
    model.generation_config.update(repetition_penalty=5.0, do_sample=True, temperature=9.0)
    assert [r.text for r in generate(model, tokenizer, PROMPTS, 12, 10_000, "set")] == [r.text for r in plain]


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, tokenizer = tiny
    encoded = [chat_ids(tokenizer, prompt) for prompt in PROMPTS]
    whole = dict(flat(replies(model, tokenizer, encoded, 6, 700)))
    nll = dict(flat(reference_nll(model, tokenizer, PROMPTS, REFERENCES, 700)))
    with monkeypatch.context() as small:
        calls = forward_calls(model, small, fits=5)
        assert texts_and_tokens(dict(flat(replies(model, tokenizer, encoded, 6, 700)))) == texts_and_tokens(whole)
        assert capsys.readouterr().out.count("out of memory") == 2  # 16 -> 8 -> 4, and the batches after it at once
        assert max(calls) <= 5
        halved = dict(flat(reference_nll(model, tokenizer, PROMPTS, REFERENCES, 700)))
    assert halved == {i: (n, pytest.approx(value, rel=1e-5)) for i, (n, value) in nll.items()}
    with monkeypatch.context() as none:
        forward_calls(model, none, fits=0)
        with pytest.raises(MlcError, match="does not fit in memory even alone"):
            dict(flat(replies(model, tokenizer, encoded, 6, 700)))


def test_going_on_runs_the_batches_of_an_uninterrupted_run(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = tiny
    encoded = [chat_ids(tokenizer, prompt) for prompt in PROMPTS]
    calls = forward_calls(model, monkeypatch)
    whole = list(flat(replies(model, tokenizer, encoded, 3, 300)))
    uninterrupted = calls.copy()
    calls.clear()
    done = {i for i, _ in whole[: len(whole) // 2 + 1]}
    rest = list(flat(replies(model, tokenizer, encoded, 3, 300, done)))
    assert {i for i, _ in rest} | done == set(range(len(PROMPTS))) and not {i for i, _ in rest} & done
    assert calls == uninterrupted[-len(calls) :] and len(calls) < len(uninterrupted)


def test_reference_likelihood_is_the_models(tiny: Tiny) -> None:
    model, tokenizer = tiny
    batched = dict(flat(reference_nll(model, tokenizer, PROMPTS, REFERENCES, 10_000)))
    assert sorted(batched) == list(range(len(PROMPTS)))
    for i, (prompt, reference) in enumerate(zip(PROMPTS, REFERENCES, strict=True)):
        tokens, nll = batched[i]
        head = chat_ids(tokenizer, prompt)
        tail = [*tokenizer(reference, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            log_probs = model(torch.tensor([head + tail])).logits[0].log_softmax(-1)
        expected = -sum(log_probs[len(head) - 1 + i, t].item() for i, t in enumerate(tail))
        assert tokens == len(tail)
        assert nll == pytest.approx(expected, rel=1e-4)
        assert math.isfinite(nll)
