"""Which alignment rows fit ``train.max_length``: counted, and refused, before anything is trained.

TRL's trainers cut replies that are too long, and pass over rows whose prompt is (DPO, SFT, KTO) or turn to NaN at them
(ORPO, CPO). So only whole rows come to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from transformers import PreTrainedTokenizerBase

from mlc.errors import MlcError
from mlc.models.generation import head_ids
from mlc.models.manifest import Fitting, TrainedOn
from mlc.prompts.schema import PromptRow
from mlc.settings import Languages, Train

REPLIES = {"sft": ("chosen",)}  # of the others, both


def fitting(
    rows: Iterable[PromptRow], languages: Languages, train: Train, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[PromptRow], TrainedOn]:
    """The rows that fit, without the variants that do not, and the count of both.

    Rows without a pair or without the source's prompt are passed over, as they are no part of training.

    Raises:
        MlcError: more than ``train.maximum_left_out`` of the rows or of a language's variants are too long, or an
            intent is gone, or was never there, where the method needs it.
    """
    limit, source = train.max_length, languages.source
    names = REPLIES.get(train.paradigm, ("chosen", "rejected"))
    kept: list[PromptRow] = []
    lengths: dict[str, list[int]] = {}
    variants: dict[str, list[tuple[str, int]]] = {tag: [] for tag in languages.served if tag != source}
    for row in rows:
        if row.chosen is None or source not in row.prompts:
            continue
        replies = [str(getattr(row, name)) for name in names]
        length = max(sequence_tokens(tokenizer, row.prompts[source], reply, train.paradigm) for reply in replies)
        lengths.setdefault(row.intent, []).append(length)
        if length > limit:
            continue
        long: set[str] = set()
        if train.objective.weight:
            for tag, counted in variants.items():
                if tag in row.prompts:
                    counted.append((row.intent, tokens := len(head_ids(tokenizer, row.prompts[tag]))))
                    long |= {tag} if tokens > limit else set()
        kept.append(row.model_copy(update={"prompts": {t: p for t, p in row.prompts.items() if t not in long}}))
    trained_on = TrainedOn(
        max_length=limit,
        rows={intent: _counted(lengths[intent], limit) for intent in sorted(lengths)},
        variants={tag: _counted([n for _, n in found], limit) for tag, found in variants.items() if found},
    )
    _refuse(trained_on, train)
    _check_languages(kept, languages, train)
    return kept, trained_on


def sequence_tokens(tokenizer: PreTrainedTokenizerBase, prompt: str, reply: str, paradigm: str) -> int:
    """Tokens of the chat of a prompt and a reply, as the paradigm's trainer makes it."""
    chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
    ids: list[int] = tokenizer.apply_chat_template(chat, return_dict=False)
    if paradigm not in ("orpo", "simpo"):
        return len(ids)
    # These two add what the template has not.
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    return len(ids) + int(begin is not None and ids[0] != begin) + int(ids[-1] != end)


def _counted(lengths: list[int], limit: int) -> Fitting:
    used = sum(length <= limit for length in lengths)
    return Fitting(used=used, left_out=len(lengths) - used, longest=max(lengths))


def _refuse(counted: TrainedOn, train: Train) -> None:
    rows, variants = counted.rows, counted.variants
    total, out = sum(one.total for one in rows.values()), sum(one.left_out for one in rows.values())
    gone = [intent for intent, one in rows.items() if not one.used]
    if gone or out > train.maximum_left_out * total:
        each = ", ".join(f"{one.left_out} of {one.total} {intent}" for intent, one in rows.items())
        raise MlcError(
            f"train.max_length is {train.max_length}, and {out} of {total} alignment rows are longer ({each})"
            + (f", so that no {' and no '.join(gone)} row would be trained on" if gone else _more_than(train))
            + _what_to_do(max(one.longest for one in rows.values()))
        )
    long = {tag: one for tag, one in variants.items() if one.left_out > train.maximum_left_out * one.total}
    if long:
        each = ", ".join(f"{one.left_out} of {one.total} in {tag}" for tag, one in long.items())
        raise MlcError(
            f"train.max_length is {train.max_length}, and variants of the alignment rows are longer: {each}"
            + _more_than(train)
            + _what_to_do(max(one.longest for one in long.values()))
        )


def _more_than(train: Train) -> str:
    return f", more than train.maximum_left_out = {train.maximum_left_out:g} allows"


def _what_to_do(longest: int) -> str:
    return f". The longest has {longest} tokens: set train.max_length to {longest}, or take long rows out of the set"


def _check_languages(rows: list[PromptRow], languages: Languages, train: Train) -> None:
    """Each served language has variants, and of both intents where the objective compares them."""
    if not train.objective.weight:
        return
    present: Callable[[str, str | None], bool] = lambda tag, intent: any(  # noqa: E731
        tag in row.prompts and intent in (None, row.intent) for row in rows
    )
    intents: tuple[str | None, ...] = ("harmful", "benign") if train.objective.name == "direction" else (None,)
    for intent in intents:
        if lacking := [tag for tag in languages.served if not present(tag, intent)]:
            what = f"{intent} alignment row" if intent else "alignment row"
            raise MlcError(
                f"no {what} that can be trained on has a prompt in {', '.join(lacking)}: translate some, release some"
                " from quarantine, or take the language out of languages.served"
            )
