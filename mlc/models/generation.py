"""Greedy replies of a causal language model, batched by tokens, and the likelihood of reference replies."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from mlc.errors import MlcError
from mlc.progress import track

T = TypeVar("T")
# Rows that have ended leave the batch when they are more than this share of it. Measured: docs/evaluation.md.
ENDED = 0.1


class Reply(NamedTuple):
    """A reply; ``tokens`` generated, end of turn included; ``seconds`` of its batch, shared out evenly; ``note`` is
    what else its maker has to say, such as why there is no text; ``finished`` says whether the model ended it or it was
    cut off, None where nobody knows."""

    text: str
    tokens: int
    seconds: float
    note: str = ""
    finished: bool | None = None


def chat_ids(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Token ids of one user turn up to and including the assistant header."""
    ids: list[int] = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=False
    )
    return ids


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


def _worked_off(
    lengths: Sequence[int], limit: int, done: Collection[int], work: Callable[[list[int]], list[T]]
) -> Iterator[tuple[int, T]]:
    """Each index that is not ``done``, with its result; ``work`` takes a batch of indices.

    The batches do not depend on what is done: an interrupted pass goes on with the very batches of an uninterrupted
    one. A batch that does not fit in memory is halved, and so are those after it.

    Raises:
        MlcError: a single row does not fit in memory.
    """
    parts = 1
    for batch in batches_by_tokens(lengths, limit):
        if all(i in done for i in batch):
            continue
        waiting = _split(batch, parts)
        while waiting:
            piece = waiting.pop(0)
            try:
                results = work(piece)
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
                results = None
            if results is None:  # only here has the exception let go of the batch's tensors
                if len(piece) == 1:
                    raise MlcError(
                        f"a prompt of {lengths[piece[0]]} tokens, its reply included, does not fit in memory even alone"
                    )
                parts *= 2
                waiting = _split(piece, 2) + waiting
                gc.collect()
                torch.cuda.empty_cache()
                print(f"out of memory with {len(piece)} prompts at once: going on with batches of half the size")
                continue
            yield from ((i, result) for i, result in zip(piece, results, strict=True) if i not in done)


def _split(batch: list[int], parts: int) -> list[list[int]]:
    size = max(1, -(-len(batch) // parts))
    return [batch[start : start + size] for start in range(0, len(batch), size)]


def stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a reply: the model's own, which can be several, and the tokenizer's."""
    own = model.generation_config.eos_token_id if model.generation_config else None
    stops = own if isinstance(own, list) else [own]
    return sorted({token for token in (*stops, tokenizer.eos_token_id) if token is not None})


@torch.inference_mode()
def greedy(
    model: PreTrainedModel, encoded: Sequence[Sequence[int]], max_new_tokens: int, stops: Sequence[int], pad: int
) -> list[list[int]]:
    """The likeliest next token, again and again: the new token ids of each row, its stop token included.

    Rows that have ended leave the batch, with their part of the cache. Nothing of the model's generation settings
    applies: no sampling, no repetition penalty.
    """
    ids, mask = (t.to(model.device) for t in padded(encoded, pad, "left"))
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    new = torch.full((len(encoded), max_new_tokens), pad, device=ids.device)
    counts = torch.full((len(encoded),), max_new_tokens, device=ids.device)
    rows = torch.arange(len(encoded), device=ids.device)  # of the batch as it is now, where they were
    live = torch.ones_like(rows, dtype=torch.bool)
    ends = torch.tensor(stops, device=ids.device)
    cache = DynamicCache(config=model.config)
    for step in range(max_new_tokens):
        output: Any = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        tokens = output.logits[:, -1].argmax(-1)
        new[rows, step] = torch.where(live, tokens, pad)
        ending = live & torch.isin(tokens, ends)
        counts[rows[ending]] = step + 1
        live &= ~ending
        left = int(live.sum())
        if not left:
            break
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        positions = positions[:, -1:] + 1
        if left < (1 - ENDED) * len(live):
            kept = live.nonzero()[:, 0]
            cache.batch_select_indices(kept)
            rows, live, tokens, mask, positions = (t[kept] for t in (rows, live, tokens, mask, positions))
        ids = tokens[:, None]
    return [row[:count] for row, count in zip(new.tolist(), counts.tolist(), strict=True)]


def replies(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[Sequence[int]],
    max_new_tokens: int,
    batch_tokens: int,
    done: Collection[int] = (),
) -> Iterator[tuple[int, Reply]]:
    """Greedy continuations of token ids, all but those ``done``, as their batches come, longest prompts first.

    Batches hold up to ``batch_tokens`` tokens, padding included. The same prompt in another batch can round
    differently; only a near-tie between two tokens turns that into another reply.

    Raises:
        MlcError: a single prompt does not fit in memory.
    """
    stops, pad = stop_tokens(model, tokenizer), tokenizer.pad_token_id

    def work(batch: list[int]) -> list[Reply]:
        started = time.perf_counter()
        new = greedy(model, [encoded[i] for i in batch], max_new_tokens, stops, pad)
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        seconds = (time.perf_counter() - started) / len(batch)
        return [Reply(text, len(ids), seconds, finished=ids[-1] in stops) for text, ids in zip(texts, new, strict=True)]

    yield from _worked_off([len(e) + max_new_tokens for e in encoded], batch_tokens, done, work)


def generate_ids(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[Sequence[int]],
    max_new_tokens: int,
    batch_tokens: int,
    what: str | None,
) -> list[Reply]:
    """Greedy continuations of token ids, in their order; ``what`` names the progress bar, None shows none."""
    stream = replies(model, tokenizer, encoded, max_new_tokens, batch_tokens)
    generated = dict(stream if what is None else track(stream, what, total=len(encoded)))
    return [generated[i] for i in range(len(encoded))]


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    max_new_tokens: int,
    batch_tokens: int,
    what: str,
) -> list[Reply]:
    """Greedy replies to user prompts, in their order."""
    encoded = [chat_ids(tokenizer, p) for p in prompts]
    return generate_ids(model, tokenizer, encoded, max_new_tokens, batch_tokens, what)


def reference_ids(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], references: Sequence[str]
) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of the prompts' chats, and of the reference replies with the end of turn."""
    tails = [tokenizer(r, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] for r in references]
    return [chat_ids(tokenizer, p) for p in prompts], tails


def reference_nll(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    references: Sequence[str],
    batch_tokens: int,
    done: Collection[int] = (),
) -> Iterator[tuple[int, tuple[int, float]]]:
    """Tokens and summed negative log-likelihood (nats) of each reference reply to its prompt, end of turn included.

    All but those ``done``, as their batches come, longest first.

    Raises:
        MlcError: a single reply with its prompt does not fit in memory.
    """
    heads, tails = reference_ids(tokenizer, prompts, references)

    @torch.inference_mode()
    def work(batch: list[int]) -> list[tuple[int, float]]:
        tensors = padded([heads[i] + tails[i] for i in batch], tokenizer.pad_token_id, "right")
        ids, mask = (t.to(model.device) for t in tensors)
        # Only the references' positions get logits: the vocabulary of a large model does not fit otherwise.
        longest = ids.shape[1] - min(len(heads[i]) for i in batch) + 1
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=longest).logits
        log_probs = logits[:, :-1].float().log_softmax(-1)
        targets = ids[:, 1 - longest :]
        nll = -log_probs.gather(-1, targets[..., None])[..., 0]
        first = ids.shape[1] - (longest - 1)  # position of targets[:, 0]
        likelihoods = []
        for row, i in enumerate(batch):
            start = len(heads[i]) - first
            likelihoods.append((len(tails[i]), float(nll[row, start : start + len(tails[i])].sum())))
        return likelihoods

    lengths = [len(h) + len(t) for h, t in zip(heads, tails, strict=True)]
    yield from _worked_off(lengths, batch_tokens, done, work)
