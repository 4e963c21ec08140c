"""Conversations as lists of turns: ShareGPT's ``from`` and ``value``, and the ``role`` and ``content`` of chat APIs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from mlc.errors import MlcError
from mlc.prompts.importers.records import Record
from mlc.text import quoted

Speaker = Literal["system", "user", "assistant", "other"]
_SPEAKERS: dict[str, Speaker] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
SEVERAL_TURNS = "a conversation of several turns"
EMPTY_REPLY = "a response is empty"


@dataclass(frozen=True)
class Turn:
    speaker: Speaker
    text: str | None  # None: blank


@dataclass(frozen=True)
class Pair:
    """One request with the reply to prefer and the one to avoid."""

    request: str
    chosen: str
    rejected: str


def is_turns(value: Any) -> bool:
    """Whether a field holds a turn or a list of turns, going by the first."""
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, dict) and ({"from", "value"} <= first.keys() or {"role", "content"} <= first.keys())


def read_turns(record: Record, name: str, speaker: Speaker) -> list[Turn]:
    """The turns of a field: a list of them, a single one, or a plain text, which ``speaker`` said.

    Raises:
        MlcError: a turn is none, or its content is no text.
    """
    value = record.fields.get(name)
    if value is None or isinstance(value, str):
        return [Turn(speaker, record.text(name))]
    return [_turn(record, name, turn) for turn in (value if isinstance(value, list) else [value])]


def _turn(record: Record, name: str, turn: Any) -> Turn:
    place = f"{record.where}, field {quoted(name)}"
    if not isinstance(turn, dict):
        raise MlcError(f"{place}: a turn with 'from' and 'value', or 'role' and 'content', is needed, not "
                       f"{quoted(str(turn))}")  # fmt: skip
    who, what = ("role", "content") if "role" in turn else ("from", "value")
    fields = Record(place, turn)
    fields.need(who, what)
    return Turn(_SPEAKERS.get(fields.text(who) or "", "other"), fields.text(what))


def pair_of(prompt: list[Turn], chosen: list[Turn], rejected: list[Turn]) -> Pair | str:
    """The request and replies of a record, or why it cannot be a row.

    ``chosen`` and ``rejected`` are the replies alone, or whole conversations that both begin with the request
    (TRL's implicit prompt); some sets give the prompt and repeat it there.
    """
    if chosen[: len(prompt)] != prompt or rejected[: len(prompt)] != prompt:
        chosen, rejected = prompt + chosen, prompt + rejected
    chosen, rejected = ([t for t in turns if t != Turn("system", None)] for turns in (chosen, rejected))
    turns = chosen + rejected
    if any(turn.speaker == "other" for turn in turns):
        return "a turn of neither a user nor an assistant (a tool, say)"
    if any(turn.speaker == "system" for turn in turns):
        return "a system prompt, which rows have no place for"
    if max(len(chosen), len(rejected)) > 2:
        return SEVERAL_TURNS
    if [turn.speaker for turn in chosen] != ["user", "assistant"] or chosen[:1] != rejected[:1]:
        return "chosen and rejected do not answer the same request"
    request, answer, other = chosen[0].text, chosen[1].text, rejected[-1].text
    if rejected[-1].speaker != "assistant" or not answer or not other:
        return EMPTY_REPLY
    if answer.strip() == other.strip():
        return "chosen and rejected are the same"
    return Pair(request, answer, other) if request else "no prompt"
