"""The prompt row: one request in several languages, and for training a chosen and a rejected reply.

Prompt sets are JSON Lines files of such rows. The replies are in the source language only: other
languages contribute prompts alone (arXiv 2602.16660, section 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from mlc.errors import MlcError
from mlc.files import JsonPart, read_rows, write_jsonl
from mlc.languages.tags import LanguageTag

Intent = Literal["harmful", "benign"]
SETS = ("alignment", "tuning", "evaluation")  # prompt sets of a project, without `.jsonl`
HUMAN = "human"  # the translator of what people wrote


class Provenance(JsonPart):
    """Who wrote the text of one language."""

    translator: str = Field(min_length=1, description="'human', or the name of the translation system")
    version: str | None = None
    licence: str | None = Field(
        default=None, description="SPDX identifier that a machine's translation is under; null where it is not known"
    )


class Origin(JsonPart):
    """Where a row was imported from, beside the name of its data set."""

    licence: str | None = Field(default=None, description="SPDX identifier, where the publisher names one")
    revision: str | None = Field(default=None, description="commit or release of the data set")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the record as it was imported")


class PromptRow(JsonPart):
    """One request in several languages. Missing languages are allowed, and reported by validation."""

    id: str = Field(min_length=1)
    source: str = Field(min_length=1, description="the data set that the row comes from")
    category: str = Field(min_length=1)
    intent: Intent
    prompts: dict[LanguageTag, str] = Field(min_length=1)
    chosen: str | None = None
    rejected: str | None = None
    references: dict[LanguageTag, str] = Field(
        default_factory=dict, description="a good reply per language, for perplexity; never trained on"
    )
    provenance: dict[LanguageTag, Provenance] = Field(default_factory=dict)
    back_translations: dict[LanguageTag, str] = Field(
        default_factory=dict, description="each language's text translated back to the source language, for validation"
    )
    origin: Origin | None = None

    @model_validator(mode="after")
    def _pairs_are_whole(self) -> Self:
        if (self.chosen is None) != (self.rejected is None):
            raise ValueError("'chosen' and 'rejected' come together: give both or neither")
        return self

    def machine(self, tag: str) -> Provenance | None:
        """The translation system that wrote the text of a language; None where a person or the data set itself did."""
        by = self.provenance.get(tag)
        return None if by is None or by.translator in (HUMAN, self.source) else by


def iter_prompts(path: Path, made_by: str = "dvc pull data.dvc") -> Iterator[PromptRow]:
    """Reads a prompt set row by row, without holding it; ``made_by`` is the command that brings a missing file.

    Raises:
        MlcError: the file is missing or empty, a line is not UTF-8, not JSON or breaks the schema (with line number and
            field), or two rows share an id. What comes before the mistake has been handed out by then.
    """
    line_of: dict[str, int] = {}
    for number, row in read_rows(path, PromptRow, f"does not exist: run `{made_by}` first"):
        if row.id in line_of:
            first = line_of[row.id]
            raise MlcError(f"{path}, line {number}, field id: {row.id!r} is already the id of line {first}")
        line_of[row.id] = number
        yield row
    if not line_of:
        raise MlcError(f"{path} holds no prompts: run `{made_by}`, or write one JSON object per line into it")


def read_prompts(path: Path, made_by: str = "dvc pull data.dvc") -> list[PromptRow]:
    """All rows of a prompt set at once; raises what ``iter_prompts`` does."""
    return list(iter_prompts(path, made_by))


def languages_of(path: Path) -> tuple[int, set[str]]:
    """How many rows a prompt set has, and the tags of all its prompts; raises what ``iter_prompts`` does."""
    rows, tags = 0, set[str]()
    for row in iter_prompts(path):
        rows += 1
        tags |= row.prompts.keys()
    return rows, tags


def write_prompts(path: Path, rows: Iterable[PromptRow]) -> None:
    write_jsonl(path, (row.model_dump(mode="json", exclude_defaults=True) for row in rows))
