"""Replies of a causal language model, batched, and the likelihood of reference replies."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlc.progress import track


class Reply(NamedTuple):
    """A reply; ``tokens`` generated, end of turn included; ``seconds`` of its batch, shared out evenly."""

    text: str
    tokens: int
    seconds: float


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


@torch.inference_mode()
def generate_ids(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[list[int]],
    max_new_tokens: int,
    batch_tokens: int,
    what: str,
) -> list[Reply]:
    """Greedy continuations of token ids, in their order.

    Batches hold up to ``batch_tokens`` tokens, padding included. The same prompt in another batch can round
    differently; only a near-tie between two tokens turns that into another reply.
    """
    replies: list[Reply] = [Reply("", 0, 0.0)] * len(encoded)
    progress = track(range(len(encoded)), what)
    for batch in batches_by_tokens([len(e) + max_new_tokens for e in encoded], batch_tokens):
        started = time.perf_counter()
        tensors = padded([encoded[i] for i in batch], tokenizer.pad_token_id, "left")
        ids, mask = (t.to(model.device) for t in tensors)
        output: Any = model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=max_new_tokens,
            pad_token_id=tokenizer.pad_token_id,
        )
        seconds = (time.perf_counter() - started) / len(batch)
        new = output[:, ids.shape[1] :].cpu()
        texts = tokenizer.batch_decode(new, skip_special_tokens=True)
        lengths = (new != tokenizer.pad_token_id).sum(1).tolist()
        for i, text, n in zip(batch, texts, lengths, strict=True):
            replies[i] = Reply(text, n, seconds)
        progress.update(len(batch))
    progress.close()
    return replies


@torch.inference_mode()
def reference_nll(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    references: Sequence[str],
    batch_tokens: int,
    what: str,
) -> list[tuple[int, float]]:
    """Tokens and summed negative log-likelihood (nats) of each reference reply to its prompt, end of turn included."""
    heads = [chat_ids(tokenizer, p) for p in prompts]
    tails = [tokenizer(r, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] for r in references]
    result: list[tuple[int, float]] = [(0, 0.0)] * len(heads)
    progress = track(range(len(heads)), what)
    for batch in batches_by_tokens([len(h) + len(t) for h, t in zip(heads, tails, strict=True)], batch_tokens):
        tensors = padded([heads[i] + tails[i] for i in batch], tokenizer.pad_token_id, "right")
        ids, mask = (t.to(model.device) for t in tensors)
        # Only the references' positions get logits: the vocabulary of a large model does not fit otherwise.
        longest = ids.shape[1] - min(len(heads[i]) for i in batch) + 1
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=longest).logits
        log_probs = logits[:, :-1].float().log_softmax(-1)
        targets = ids[:, 1 - longest :]
        nll = -log_probs.gather(-1, targets[..., None])[..., 0]
        first = ids.shape[1] - (longest - 1)  # position of targets[:, 0]
        for row, i in enumerate(batch):
            start = len(heads[i]) - first
            result[i] = (len(tails[i]), float(nll[row, start : start + len(tails[i])].sum()))
        progress.update(len(batch))
    progress.close()
    return result
