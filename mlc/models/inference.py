"""A model made ready to answer, and its greedy replies: by the one code with which it is evaluated and served.

Evaluation, audits and ``mlc chat`` import this module, and a registered version carries a copy of it. So it imports
nothing of this package: a version is served where this package may not be installed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jinja2 import TemplateError
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

SAFE: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True}  # no code and no pickle comes with weights
# Rows that have ended leave the batch when they are more than this share of it. Measured: docs/evaluation.md.
ENDED = 0.1
# Architectures in which the rows of a batch change one another, by their padding or their states: one row at a time.
# tests/models/test_architectures.py says so of every architecture of the installed transformers.
ALONE = frozenset({"deepseek_v4", "dots3_note", "dots3_note_text", "recurrent_gemma", "rwkv", "xlstm"})


# Between which models think before they reply.
MARKS = (
    ("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("<thought>", "</thought>"), ("<seed:think>", "</seed:think>"),
)  # fmt: skip


class Thinking(NamedTuple):
    """How a model thinks before it replies: between which marks, and whether the assistant header ends with the first
    (``opened``) or has the second behind it (``closed``: it is to reply at once)."""

    begin: str
    end: str
    opened: bool
    closed: bool


class Answer(NamedTuple):
    """The text of a reply, its token ids with the one that ended it, and whether one did.

    ``thinking`` is what the model wrote before it, marks and white space included, None where it did not think: the
    two together are all that it wrote. A reply is empty where the thinking did not end.
    """

    text: str
    ids: list[int]
    ended: bool
    thinking: str | None = None


def load(
    folder: Path, base: str | Path | None, precision: str, revision: str | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model in a folder, on the CPU and ready to answer, and its tokenizer. An adapter is merged into its base.

    Merged, because a token of a merged model costs what one of the base does; here, so that it is merged everywhere,
    on the same device and in the same precision, or nowhere.

    Args:
        folder: weights or adapter, with tokenizer.
        base: of an adapter: its folder, or its id on the hub. revision: the commit on the hub.
        precision: of weights and computation, ``float32`` or ``bfloat16``, whatever the files are stored in.

    Raises:
        ValueError: an adapter without its base, or weights that lack a tensor of the model.
    """
    adapter = (folder / "adapter_config.json").is_file()
    if adapter and base is None:
        raise ValueError(f"{folder} holds an adapter, and its base is not named")
    weights = base if adapter else folder
    model: Any
    model, loading = AutoModelForCausalLM.from_pretrained(
        weights,
        revision=revision if adapter else None,
        dtype=getattr(torch, precision),
        output_loading_info=True,
        **SAFE,
    )
    check_whole(loading)
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder, use_safetensors=True).merge_and_unload()
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return model.eval(), tokenizer


def check_whole(loading: Mapping[str, Any]) -> None:
    """Raises ``ValueError`` when the weights lacked a tensor of the model, by transformers' account of loading."""
    if missing := sorted(loading["missing_keys"]):
        raise ValueError(
            f"the weights lack {len(missing)} of the model's tensors, such as {missing[0]}: random numbers would stand"
            " in their place. Fetch it again"
        )


def device() -> str:
    """Where models answer."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def chat_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """Token ids of a conversation up to and including the assistant header."""
    ids: list[int] = tokenizer.apply_chat_template(
        [dict(message) for message in messages], add_generation_prompt=True, return_dict=False
    )
    return ids


def thinking_marks(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str] | None:
    """The marks of thinking that the chat template speaks of, None where it speaks of none."""
    template = str(tokenizer.chat_template or "")  # or several of them, by name
    return next((pair for pair in MARKS if pair[1] in template), None)


def thinking_of(tokenizer: PreTrainedTokenizerBase) -> Thinking | None:
    """How a model thinks, by its own chat template; None where that knows of no thinking.

    Only the template says so: no model hides a text from its judge by writing marks that nobody takes for any.
    """
    if (marks := thinking_marks(tokenizer)) is None:
        return None
    try:
        turn = [{"role": "user", "content": "Question?"}]
        header = str(tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)).rstrip()
    except (TemplateError, TypeError, ValueError):  # a guard's template, which takes other turns
        header = ""
    return Thinking(*marks, opened=header.endswith(marks[0]), closed=header.endswith(marks[1]))


def split(text: str, thinking: Thinking | None) -> tuple[str | None, str]:
    """What was thought, and the reply: all that comes after the first end of thinking, where there is one.

    The first, so that a further one hides nothing.
    """
    if thinking is None or not (thinking.opened or text.lstrip().startswith(thinking.begin)):
        return None, text
    _, end, after = text.partition(thinking.end)
    reply = after.lstrip() if end else ""
    return text[: len(text) - len(reply)], reply


def decoded(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Sequence[int]], thinking: Thinking | None
) -> list[tuple[str | None, str]]:
    """What was thought, and the reply, of each row of token ids. Special tokens are left out, marks of thinking not."""
    marks: set[int] = set()
    if thinking is not None:
        marks = {tokenizer.convert_tokens_to_ids(mark) for mark in thinking[:2]} & _special_tokens(tokenizer)
    if not marks:
        return [split(text, thinking) for text in tokenizer.batch_decode(list(rows), skip_special_tokens=True)]
    texts = []
    for row in rows:
        pieces: list[list[int]] = [[]]
        for token in row:
            pieces += [[token], []] if token in marks else []
            if token not in marks:
                pieces[-1].append(token)
        texts.append(
            "".join(str(tokenizer.decode(p, skip_special_tokens=not marks.issuperset(p))) for p in pieces if p)
        )
    return [split(text, thinking) for text in texts]


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    return {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The special token with which the chat template ends a reply, None where it writes none.

    Training teaches the model to end its replies so, whatever end of text the tokenizer names.
    """
    if not tokenizer.chat_template:
        return None
    turns = [{"role": "user", "content": "Question?"}, {"role": "assistant", "content": "Answer."}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except (TemplateError, TypeError, ValueError):  # a guard's template, which takes other turns
        return None
    _, _, after = text.rpartition("Answer.")
    special = _special_tokens(tokenizer)
    ids = tokenizer(after, add_special_tokens=False)["input_ids"]
    return next((token for token in ids if token in special or token in tokenizer.all_special_ids), None)


def generation_stops(settings: GenerationConfig | None, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that end a reply by the model's generation settings, which can be several, and the tokenizer's."""
    own = settings.eos_token_id if settings else None
    stops = own if isinstance(own, list) else [own]
    return {token for token in (*stops, tokenizer.eos_token_id) if token is not None}


def stop_tokens(settings: GenerationConfig | None, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a reply: the model's own, and the one that its chat template ends a reply with."""
    end = end_of_turn(tokenizer)
    return sorted(generation_stops(settings, tokenizer) | ({end} if end is not None else set()))


def pad_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Any token fills a batch, as the mask hides it: the tokenizer's, its end of a turn, or the first one."""
    named = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return next(token for token in named if token is not None)


def batches_by_tokens(lengths: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, longest first, each at most ``limit`` tokens wide, padding included.

    Longest first, so that a batch that does not fit in memory fails at once.
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > limit:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def padded(rows: Sequence[Sequence[int]], pad: int, side: Literal["left", "right"]) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, (N, T) int64 each; padded left, the last column holds every row's last token."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for i, row in enumerate(rows):
        where = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        ids[i, where] = torch.tensor(row, dtype=torch.long)
        mask[i, where] = 1
    return ids, mask


@torch.inference_mode()
def greedy(
    model: PreTrainedModel, encoded: Sequence[Sequence[int]], max_new_tokens: int, stops: Sequence[int], pad: int
) -> list[list[int]]:
    """The likeliest next token, again and again: the new token ids of each row, its stop token included.

    transformers' ``generate`` prepares inputs and cache for the architecture, and :func:`_likeliest` takes the place
    of its loop. Nothing of the model's generation settings applies: no sampling, no repetition penalty, no beams, no
    forbidden or forced tokens.
    """
    settings = GenerationConfig(
        max_new_tokens=max_new_tokens, eos_token_id=list(stops), pad_token_id=pad, do_sample=False, num_beams=1,
        num_return_sequences=1, use_cache=True,
    )  # fmt: skip
    plain: Any = copy.copy(model)  # the same weights: `generate` would take what is not given from the model's settings
    plain.generation_config = GenerationConfig()
    batches = [[row] for row in encoded] if model.config.model_type in ALONE else [encoded]
    new: list[list[int]] = []
    for batch in batches:
        ids, mask = (t.to(model.device) for t in padded(batch, pad, "left"))
        new += plain.generate(ids, attention_mask=mask, generation_config=settings, custom_generate=_likeliest)
    return new


def _likeliest(model: Any, input_ids: Tensor, generation_config: GenerationConfig, **inputs: Any) -> list[list[int]]:
    """Greedy decoding by ``generate``'s own steps, but that rows that have ended leave the batch, and the cache."""
    inputs = {name: value for name, value in inputs.items() if name not in ("logits_processor", "stopping_criteria")}
    steps: int = generation_config.max_new_tokens
    ids, pad = input_ids, generation_config.pad_token_id
    new = torch.full((len(ids), steps), pad, device=ids.device)
    counts = torch.full((len(ids),), steps, device=ids.device)
    rows = torch.arange(len(ids), device=ids.device)  # of the batch as it is now, where they were
    live = torch.ones_like(rows, dtype=torch.bool)
    ends = torch.tensor(generation_config.eos_token_id, device=ids.device)
    for step in range(steps):
        now = model.prepare_inputs_for_generation(
            ids, next_sequence_length=1 if step else None, is_first_iteration=not step, **inputs
        )
        output = model(**now, return_dict=True)
        inputs = model._update_model_kwargs_for_generation(output, inputs)
        tokens = output.logits[:, -1].argmax(-1)
        new[rows, step] = torch.where(live, tokens, pad)
        ending = live & torch.isin(tokens, ends)
        counts[rows[ending]] = step + 1
        live &= ~ending
        left = int(live.sum())
        if not left:
            break
        ids = torch.cat([ids, tokens[:, None]], 1)
        if left < (1 - ENDED) * len(live) and _can_leave(inputs, len(live)):
            kept = live.nonzero()[:, 0]
            rows, live, ids = rows[kept], live[kept], ids[kept]
            inputs = {name: _rows(value, kept) for name, value in inputs.items()}
    return [row[:count] for row, count in zip(new.tolist(), counts.tolist(), strict=True)]


def _can_leave(inputs: Mapping[str, Any], rows: int) -> bool:
    """Whether everything that the next step needs can be had for some of the rows."""
    for value in inputs.values():
        if isinstance(value, Tensor):
            if value.dim() < 2 or value.shape[-2] != rows:
                return False
        elif not (value is None or isinstance(value, bool | int) or type(value) is DynamicCache):
            return False
    return True


def _rows(value: Any, kept: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value.index_select(-2, kept)
    if isinstance(value, DynamicCache):
        value.reorder_cache(kept)
    return value


def answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[Sequence[int]],
    max_new_tokens: int,
) -> list[Answer]:
    """Greedy replies to conversations, given as token ids, in one batch and in their order."""
    stops = stop_tokens(model.generation_config, tokenizer)
    new = greedy(model, encoded, max_new_tokens, stops, pad_token(tokenizer))
    texts = decoded(tokenizer, new, thinking_of(tokenizer))
    return [Answer(text, ids, ids[-1] in stops, thinking) for (thinking, text), ids in zip(texts, new, strict=True)]
