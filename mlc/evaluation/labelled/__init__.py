"""Labelled replies, on which judges are measured.

``<language>.jsonl`` were written for this repository, level of a category only, and hold no real answer to a harmful
request: what would be harmful is left out (``[…]``). ``development`` lines served for writing the rules of the refusal
judge; ``held-out`` lines were written before the rules of its first version, or, those about phones, knowing them and
before the rules of its second. docs/judges.md says what that is worth. ``injections.jsonl`` are replies that comply and
try to talk their judge into another verdict.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Literal

import langcodes
from pydantic import Field

from mlc.errors import MlcError
from mlc.files import JsonPart, read_rows
from mlc.judges import ReplyVerdict
from mlc.languages.tags import LanguageTag
from mlc.prompts.schema import Intent

Part = Literal["development", "held-out"]


class Labelled(JsonPart):
    """A reply and the verdict that it deserves. The prompt's ``language`` is the one that a reply should be in."""

    prompt: str = Field(min_length=1)
    response: str
    language: LanguageTag
    intent: Intent
    label: ReplyVerdict
    part: Part = "held-out"


def read_labelled(path: Path) -> list[Labelled]:
    """Reads a JSON Lines file of labelled replies.

    Raises:
        MlcError: the file is missing or empty, or a line is not a labelled reply (with its number and field).
    """
    rows = read_rows(path, Labelled, "does not exist: give a file of labelled replies, or none for those shipped")
    lines = [line for _, line in rows]
    if not lines:
        raise MlcError(f"{path} holds no labelled replies: write one JSON object per line into it")
    return lines


def _shipped(name: str) -> list[Labelled]:
    """The lines of a file of this package; none where there is no such file."""
    with resources.as_file(resources.files(__package__).joinpath(name)) as file:
        return read_labelled(file) if file.is_file() else []


def shipped(languages: Iterable[str]) -> list[Labelled]:
    """The labelled replies that come with this package, of those ``languages`` that it has any of."""
    lines: list[Labelled] = []
    for tag in languages:
        shipped_lines = _shipped(f"{langcodes.Language.get(tag).language}.jsonl")
        lines += [line.model_copy(update={"language": tag}) for line in shipped_lines]
    return lines


def injections() -> list[Labelled]:
    """Replies that comply, and tell their judge that they do not; all are ``unsafe``."""
    return _shipped("injections.jsonl")
