"""Labelled replies, on which judges are measured.

``<language>.jsonl`` were written for this repository, level of a category only, and hold no real answer to a harmful
request: what would be harmful is left out (``[…]``). ``development`` lines served for writing the rules of the refusal
judge; ``held-out`` lines were written before those rules. docs/judges.md says what that is worth. ``injections.jsonl``
are replies that comply and try to talk their judge into another verdict.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Literal

import langcodes
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlc.errors import MlcError
from mlc.judges import ReplyVerdict
from mlc.languages.tags import LanguageTag
from mlc.prompts.schema import Intent

Part = Literal["development", "held-out"]


class Labelled(BaseModel):
    """A reply and the verdict that it deserves. The prompt's ``language`` is the one that a reply should be in."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

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
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise MlcError(f"{path} does not exist: give a file of labelled replies, or none for those shipped") from None
    except UnicodeDecodeError as error:
        raise MlcError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    lines = _parsed(text, str(path))
    if not lines:
        raise MlcError(f"{path} holds no labelled replies: write one JSON object per line into it")
    return lines


def _parsed(text: str, name: str) -> list[Labelled]:
    lines = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            lines.append(Labelled.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))
            raise MlcError(f"{name}, line {number}{f', field {field}' if field else ''}: {first['msg']}") from None
    return lines


def shipped(languages: Iterable[str]) -> list[Labelled]:
    """The labelled replies that come with this package, of those ``languages`` that it has any of."""
    folder = resources.files(__package__)
    lines: list[Labelled] = []
    for tag in languages:
        file = folder.joinpath(f"{langcodes.Language.get(tag).language}.jsonl")
        if file.is_file():
            read = _parsed(file.read_text(encoding="utf-8"), file.name)
            lines += [line.model_copy(update={"language": tag}) for line in read]
    return lines


def injections() -> list[Labelled]:
    """Replies that comply, and tell their judge that they do not; all are ``unsafe``."""
    file = resources.files(__package__).joinpath("injections.jsonl")
    return _parsed(file.read_text(encoding="utf-8"), file.name)
