"""Layouts of preference pairs that any data set may have: they say neither its name nor what its requests are.

One request and two replies are a row. Everything is in one language, ``source.language``, and of one intent,
``source.intent``: the command line says both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlc.errors import MlcError
from mlc.prompts.importers.drafts import UNSPECIFIED, Draft, LeftOut
from mlc.prompts.importers.records import Record, Source, read_any
from mlc.prompts.importers.turns import SEVERAL_TURNS, Pair, Turn, pair_of, read_turns
from mlc.text import quoted

_HH_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")


def sharegpt(source: Source) -> Iterator[Draft | LeftOut]:
    """LLaMA-Factory's preference pairs of ShareGPT turns: ``conversations`` ends with the request."""
    for record in read_any(source):
        record.need("conversations", "chosen", "rejected")
        prompt = [Turn("system", record.text("system")), *read_turns(record, "conversations", "user")]
        if record.fields.get("tools"):
            yield LeftOut(record.where, "tools, which rows have no place for")
        else:
            yield _draft(record, source, "conversations", _answered(record, prompt))


def alpaca(source: Source) -> Iterator[Draft | LeftOut]:
    """LLaMA-Factory's preference pairs of the Alpaca layout; ``instruction`` and ``input`` are the request's lines."""
    for record in read_any(source):
        record.need("instruction", "chosen", "rejected")
        parts = [part for part in (record.text("instruction"), record.text("input")) if part]
        prompt = [Turn("system", record.text("system")), Turn("user", "\n".join(parts) or None)]
        if record.fields.get("history"):
            yield LeftOut(record.where, SEVERAL_TURNS)
        else:
            yield _draft(record, source, "instruction", _answered(record, prompt))


def trl(source: Source) -> Iterator[Draft | LeftOut]:
    """TRL's preference pairs: texts, or messages with ``role`` and ``content``.

    Of messages, the request may be ``prompt``, or stand at the beginning of ``chosen`` and ``rejected``, or both.
    """
    for record in read_any(source):
        record.need("chosen", "rejected")
        if "prompt" not in record.fields and not isinstance(record.fields["chosen"], list):
            raise MlcError(
                f"{record.where}: no field prompt, and 'chosen' and 'rejected' are whole texts, which do not say where "
                "the request ends; without it, messages with 'role' and 'content' are needed"
            )
        prompt = read_turns(record, "prompt", "user") if record.fields.get("prompt") else []
        yield _draft(record, source, "prompt" if prompt else "chosen", _answered(record, prompt))


def hh(source: Source) -> Iterator[Draft | LeftOut]:
    r"""Anthropic's HH pairs: ``chosen`` and ``rejected`` are whole dialogues, ``\n\nHuman: …\n\nAssistant: …``."""
    for record in read_any(source):
        record.need("chosen", "rejected")
        yield _draft(record, source, "chosen", pair_of([], *(_dialogue(record, n) for n in ("chosen", "rejected"))))


def _dialogue(record: Record, name: str) -> list[Turn]:
    _, *parts = _HH_TURN.split(text := record.text(name) or "")
    if text and not parts:
        raise MlcError(
            f"{record.where}, field {quoted(name)}: a dialogue with '\\n\\nHuman:' and '\\n\\nAssistant:' is needed, "
            f"not {quoted(text, longest=40)}"
        )
    said = zip(parts[::2], parts[1::2], strict=True)
    return [Turn("user" if who == "Human" else "assistant", what.strip() or None) for who, what in said]


def _answered(record: Record, prompt: list[Turn]) -> Pair | str:
    return pair_of(prompt, *(read_turns(record, name, "assistant") for name in ("chosen", "rejected")))


def _draft(record: Record, source: Source, field: str, pair: Pair | str) -> Draft | LeftOut:
    if isinstance(pair, str):
        return LeftOut(record.where, pair)
    if source.intent is None:
        raise MlcError(f"{record.where}: nothing says whether its request is harmful: give the intent of the set")
    # Where dialogues are whole, the request is in the field of the reply.
    requests = f"{record.place(field)}{', the requests' if field == 'chosen' else ''}"
    return Draft(
        record.where,
        record.fields,
        None,
        source.intent,
        UNSPECIFIED,
        {source.language: pair.request},
        pair.chosen,
        pair.rejected,
        places={source.language: requests} | {name: record.place(name) for name in ("chosen", "rejected")},
        language_told=True,
    )
