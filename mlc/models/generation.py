"""Greedy replies of a causal language model, batched by tokens, and the likelihood of reference replies."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple, TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mlc.errors import MlcError
from mlc.models import inference
from mlc.models.inference import answers, batches_by_tokens, pad_token, padded
from mlc.progress import progress_bar

__all__ = ["batches_by_tokens", "padded"]  # of the module that a registered version carries a copy of

T = TypeVar("T")
_REPLY = "REPLY9f1c27"  # stands in for a reply in a rendered template


class Reply(NamedTuple):
    """A reply; ``tokens`` generated, end of turn included; ``seconds`` of its batch, shared out evenly; ``note`` is
    what else its maker has to say, such as why there is no text; ``finished`` says whether the model ended it or it was
    cut off, None where nobody knows; ``thinking`` is what it wrote before the reply, None where it did not think."""

    text: str
    tokens: int
    seconds: float
    note: str = ""
    finished: bool | None = None
    thinking: str | None = None

    @property
    def only_thinking(self) -> bool:
        """Whether the model thought, and said nothing."""
        return self.thinking is not None and not self.text.strip()


def chat_ids(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Token ids of one user turn up to and including the assistant header."""
    return inference.chat_ids(tokenizer, [{"role": "user", "content": prompt}])


def head_ids(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[int]:
    """Token ids of one user turn up to where the words of a given reply begin.

    As :func:`chat_ids`, but that a template which knows of thinking can write more before a reply, such as thinking
    that is empty; training has its replies behind that too.
    """
    if inference.thinking_marks(tokenizer) is None:
        return chat_ids(tokenizer, prompt)
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": _REPLY}]
    before, _, _ = str(tokenizer.apply_chat_template(turns, tokenize=False)).rpartition(_REPLY)
    ids: list[int] = tokenizer(before, add_special_tokens=False)["input_ids"]
    return ids


def _worked_off(
    lengths: Sequence[int], limit: int, done: Collection[int], work: Callable[[list[int]], list[T]]
) -> Iterator[list[tuple[int, T]]]:
    """The indices that are not ``done`` with their results, batch by batch; ``work`` takes a batch of indices.

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
            yield [(i, result) for i, result in zip(piece, results, strict=True) if i not in done]


def _split(batch: list[int], parts: int) -> list[list[int]]:
    size = max(1, -(-len(batch) // parts))
    return [batch[start : start + size] for start in range(0, len(batch), size)]


def replies(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    encoded: Sequence[Sequence[int]],
    max_new_tokens: int,
    batch_tokens: int,
    done: Collection[int] = (),
) -> Iterator[list[tuple[int, Reply]]]:
    """Greedy continuations of token ids, all but those ``done``, batch by batch, longest prompts first.

    Batches hold up to ``batch_tokens`` tokens, padding included. The same prompt in another batch can round
    differently; only a near-tie between two tokens turns that into another reply.

    Raises:
        MlcError: a single prompt does not fit in memory.
    """

    def work(batch: list[int]) -> list[Reply]:
        started = time.perf_counter()
        made = answers(model, tokenizer, [encoded[i] for i in batch], max_new_tokens)
        seconds = (time.perf_counter() - started) / len(batch)
        return [Reply(answer.text, len(answer.ids), seconds, "", answer.ended, answer.thinking) for answer in made]

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
    generated: dict[int, Reply] = {}
    with progress_bar(what, len(encoded)) as progress:
        for batch in replies(model, tokenizer, encoded, max_new_tokens, batch_tokens):
            generated.update(batch)
            progress.update(len(batch))
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
    """Token ids of the prompts' chats up to a reply, and of the reference replies with the end of turn."""
    turn_end = inference.end_of_turn(tokenizer)
    end = [token for token in (turn_end if turn_end is not None else tokenizer.eos_token_id,) if token is not None]
    tails = [tokenizer(r, add_special_tokens=False)["input_ids"] + end for r in references]
    return [head_ids(tokenizer, p) for p in prompts], tails


def reference_nll(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    references: Sequence[str],
    batch_tokens: int,
    done: Collection[int] = (),
) -> Iterator[list[tuple[int, tuple[int, float]]]]:
    """Tokens and summed negative log-likelihood (nats) of each reference reply to its prompt, end of turn included.

    All but those ``done``, batch by batch, longest first.

    Raises:
        MlcError: a single reply with its prompt does not fit in memory.
    """
    heads, tails = reference_ids(tokenizer, prompts, references)

    @torch.inference_mode()
    def work(batch: list[int]) -> list[tuple[int, float]]:
        tensors = padded([heads[i] + tails[i] for i in batch], pad_token(tokenizer), "right")
        ids, mask = (t.to(model.device) for t in tensors)
        # Only the references' positions get logits: the vocabulary of a large model does not fit otherwise.
        longest = ids.shape[1] - min(len(heads[i]) for i in batch) + 1
        fewer = {"logits_to_keep": longest} if model._supports_logits_to_keep() else {}
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **fewer).logits[:, -longest:]
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
