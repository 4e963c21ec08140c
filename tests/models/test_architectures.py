"""Every causal architecture is trained, evaluated and served rightly, or refused in one line before anything is.

``python -m tests.models.test_architectures > docs/architectures.md`` makes the table again.
"""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from transformers import PreTrainedModel

from mlc.errors import MlcError
from mlc.models import inference
from mlc.models.architecture import check_architecture, unsupported
from mlc.models.generation import reference_nll
from mlc.models.inference import ALONE, greedy, padded
from mlc.models.representations import encode

from .tiny_architectures import TYPES, VOCABULARY, config, tiny

LENGTHS = (5, 17, 11, 3, 24, 9, 17, 5)
NEW = 16
REPRESENTATIVES = ("llama", "gemma3_text", "qwen3_5_text", "gpt2", "granitemoehybrid", "rwkv")
# Its states begin with the first layer's output, not with the embeddings.
ONE_FEWER = ("falcon_mamba", "mamba", "mamba2", "rwkv")
# No tiny one can be made here: weights for pictures or sound, another package, or configurations that exclude it.
NOT_MADE = (
    "blt", "dots3_note", "gemma3n", "gemma4_assistant", "gemma4_unified_assistant", "git", "got_ocr2",
    "moss_transcribe_diarize", "musicgen", "musicgen_melody", "phi4_multimodal",
)  # fmt: skip


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, VOCABULARY, (n,), generator=generator).tolist() for n in LENGTHS]


@torch.inference_mode()
def generated(model: Any, row: list[int], stops: list[int]) -> list[int]:
    """transformers' own reply to one prompt."""
    ids = torch.tensor([row])
    new: list[int] = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=NEW, eos_token_id=stops,
        pad_token_id=0,
    )[0, len(row) :].tolist()  # fmt: skip
    return new


def replies_are_generates(model: PreTrainedModel) -> bool:
    """Alone, and in a batch whose rows end at different steps; the stop tokens are such that some end early."""
    rows = prompts()
    whole = [generated(model, row, [VOCABULARY]) for row in rows]
    stops = sorted({reply[2 + 3 * i] for i, reply in enumerate(whole[:5])})
    expected = [generated(model, row, stops) for row in rows]
    alone = [greedy(model, [row], NEW, stops, 0)[0] for row in rows]
    return alone == expected == greedy(model, rows, NEW, stops, 0) and min(map(len, expected)) < NEW


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool((a - b).abs().max() <= 1e-3 * b.abs().max())


def states_are_the_rows_own(model: PreTrainedModel) -> bool:
    rows = prompts()
    ids, mask = padded(rows, 0, "left")
    shift = model.config.model_type in ONE_FEWER
    with torch.no_grad():
        for layer in (1, 2, -1):
            hidden, logits = encode(model, ids, mask, layer)
            for i, row in enumerate(rows):
                alone: Any = model(input_ids=torch.tensor([row]), output_hidden_states=True, use_cache=False)
                state = alone.hidden_states[layer - shift if layer > 0 else layer][0, -1]
                if not (close(hidden[i], state) and close(logits[i], alone.logits[0, -1])):
                    return False
    return True


def gradients_are_finite(model: PreTrainedModel) -> bool:
    hidden, logits = encode(model, *padded(prompts(), 0, "left"), 2)
    (hidden.pow(2).mean() + logits.log_softmax(-1).pow(2).mean()).backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    model.zero_grad()
    return len(gradients) > 2 and all(bool(gradient.isfinite().all()) for gradient in gradients)


class Numbers:
    """A tokenizer of texts that are token ids."""

    pad_token_id, eos_token_id, chat_template = 0, 2, None
    added_tokens_decoder: ClassVar[dict[int, Any]] = {}

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> list[int]:
        return [int(word) for word in messages[0]["content"].split()]

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [int(word) for word in text.split()]}


def likelihoods_are_the_rows_own(model: PreTrainedModel) -> bool:
    rows = [" ".join(map(str, row)) for row in prompts()]
    asked: tuple[Any, ...] = (model, Numbers(), rows, rows[::-1])
    together, alone = (dict(chain.from_iterable(reference_nll(*asked, tokens))) for tokens in (10_000, 1))
    return all(together[i] == (n, pytest.approx(value, rel=1e-4)) for i, (n, value) in alone.items())


CHECKS: dict[str, Callable[[PreTrainedModel], bool]] = {
    "replies": replies_are_generates,
    "likelihoods": likelihoods_are_the_rows_own,
    "hidden states": states_are_the_rows_own,
    "gradients": gradients_are_finite,
}


def refusal(model_type: str, folder: Path) -> str | None:
    config(model_type).save_pretrained(folder)
    return unsupported(folder)


@pytest.mark.parametrize(
    "model_type", [pytest.param(t, marks=() if t in REPRESENTATIVES else pytest.mark.slow) for t in TYPES]
)
def test_an_architecture_is_right_or_refused(model_type: str, tmp_path: Path) -> None:
    if model_type in NOT_MADE:
        pytest.skip("no tiny one can be made")
    words = refusal(model_type, tmp_path)
    if words is not None:
        assert model_type not in REPRESENTATIVES and f"model_type = {model_type} " in words and "\n" not in words
        return
    model = tiny(model_type)
    wrong = [name for name, right in CHECKS.items() if not right(model)]
    assert wrong == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model_type": "nonesuch"}, "model_type = nonesuch is no causal language model that transformers"),
        ({"model_type": "own", "auto_map": {"AutoModelForCausalLM": "m.Own"}}, "code of its own"),
        ({"model_type": "bart"}, "encoder-decoder"),
        ({"model_type": "bert"}, "no list of decoder layers"),
        ({"model_type": "gemma3n_text"}, "several hidden states"),
        ({"model_type": "llama", "hidden_size": "wide"}, "cannot be built from config.json"),
        ({"hidden_size": 8}, "names no model_type"),
    ],
)
def test_what_cannot_be_aligned_is_refused_in_one_line(given: object, words: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(given))
    with pytest.raises(MlcError, match=words) as raised:
        check_architecture(tmp_path, "a/base")
    assert "\n" not in str(raised.value) and "will do" in str(raised.value)


def test_a_known_type_with_code_beside_it_is_built_by_transformers(tmp_path: Path) -> None:
    tiny_config = config("llama")
    tiny_config.auto_map = {"AutoModelForCausalLM": "modeling_own.Own"}
    tiny_config.save_pretrained(tmp_path)
    check_architecture(tmp_path, "a/base")


@pytest.mark.parametrize(
    "model_type",
    [pytest.param("llama", marks=pytest.mark.slow), pytest.param("rwkv", marks=pytest.mark.slow), "granitemoehybrid"],
)
def test_replies_of_the_registered_models_code_are_generates(model_type: str) -> None:

    model = tiny(model_type)
    rows = prompts()
    stops = [generated(model, rows[0], [VOCABULARY])[2]]
    model.generation_config.eos_token_id = stops
    tokenizer: Any = Numbers()
    tokenizer.eos_token_id = None
    tokenizer.batch_decode = lambda new, **_: [" ".join(map(str, ids)) for ids in new]
    code = Path(inference.__file__).parents[1] / "registry" / "pyfunc_model.py"
    replies = runpy.run_path(str(code))["Replies"]()
    replies.inference, replies.model, replies.tokenizer = inference, model, tokenizer
    replies.config = {"max_new_tokens": NEW, "batch_tokens": 10_000}
    chats = {"messages": [[{"role": "user", "content": " ".join(map(str, row))}] for row in rows]}
    completions = replies.predict(chats, {"max_tokens": NEW})
    texts = [completion["choices"][0]["message"]["content"] for completion in completions]
    assert texts == [" ".join(map(str, generated(model, row, stops))) for row in rows]


def table() -> None:
    """Prints the page of the documentation, measured anew."""
    import tempfile

    import transformers

    transformers.logging.set_verbosity_error()
    supported, refused = [], []
    for model_type in sorted(TYPES):
        if model_type in NOT_MADE:
            continue
        with tempfile.TemporaryDirectory() as folder:
            words = refusal(model_type, Path(folder))
        if words is not None:
            refused.append(f"| {model_type} | {words.removeprefix(f'model_type = {model_type} ')} |")
            continue
        model = tiny(model_type)
        right = ["yes" if check(model) else "**no**" for check in CHECKS.values()]
        batch = "one row at a time" if model_type in ALONE else "in batches"
        supported.append(f"| {model_type} | {' | '.join(right)} | {batch} |")
    print(PAGE.format(
        version=transformers.__version__, supported="\n".join(supported), refused="\n".join(refused),
        count=len(supported), not_made=", ".join(NOT_MADE),
    ))  # fmt: skip


PAGE = """# Architectures

What works was measured with transformers {version}: each of its causal architectures, made tiny with random weights.
`python -m tests.models.test_architectures > docs/architectures.md` measures it again, and a slow test holds it.

`mlc base` and `mlc doctor` build the architecture of the base without its weights and refuse in one line what is not
supported, before anything is trained.

## Supported: {count}

- **replies**: the greedy replies are those of transformers' own `generate`, of a prompt alone, and in a batch of
  prompts of different lengths whose replies end at different steps. Evaluation and the registered model use the same
  code, so what is served is what was evaluated.
- **likelihoods**: of reference replies, in a batch as alone.
- **hidden states**: those that the objectives read are transformers' own of the prompt alone, in a padded batch.
- **gradients**: of such states and of the next token's logits, finite.
- **answered**: "one row at a time" where transformers' own batch gives other replies than the row alone, so that
  evaluation and training take longer.

| model_type | replies | likelihoods | hidden states | gradients | answered |
|---|---|---|---|---|---|
{supported}

Real weights, real sizes and lower precision were not measured here: `mlc doctor` tries the base itself.

## Refused

| model_type | the words |
|---|---|
{refused}

## Not measured

No tiny model of these could be made, as they need weights for pictures or sound, another package, or sizes that their
configuration fixes: {not_made}.
`gemma3n` is refused, as `gemma3n_text` is, and so is what is an encoder-decoder. The others are not, and nothing is
known about them.
"""

if __name__ == "__main__":
    table()
