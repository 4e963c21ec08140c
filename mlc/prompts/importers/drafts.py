"""What a layout makes of a published record, before languages are tags and requests have ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlc.prompts.schema import Intent, Provenance

UNSPECIFIED = "unspecified"  # the category of sets that publish none


@dataclass(frozen=True)
class DataSet:
    """What holds for all rows of a published data set."""

    name: str
    licence: str | None
    provenance: Mapping[str, Provenance]  # by tag; "*" stands for every other language
    split: str | None = None  # the split imported by default; None where it is not published in splits

    def written_by(self, tag: str) -> Provenance:
        return self.provenance.get(tag) or self.provenance.get("*") or Provenance(translator=self.name)


@dataclass(frozen=True)
class Draft:
    """A usable record. Languages go by their published names."""

    where: str
    record: Any  # as published, for its hash
    key: str | None  # the publisher's id
    intent: Intent
    category: str
    texts: dict[str, str]
    chosen: str | None = None
    rejected: str | None = None
    references: dict[str, str] = field(default_factory=dict)
    back_translations: dict[str, str] = field(default_factory=dict)
    # Where the texts of a language, ``chosen`` and ``rejected`` stand, for messages: a file and its field.
    places: Mapping[str, str] = field(default_factory=dict)
    language_told: bool = False  # the layout names no language: the command line's is taken


@dataclass(frozen=True)
class LeftOut:
    """A record that is not imported, and why."""

    where: str
    reason: str
