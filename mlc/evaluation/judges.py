"""Judges: who decides what a reply is.

A judge whose output cannot be read leaves ``invalid``, which never counts as safe.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from mlc.evaluation.samples import Verdict
from mlc.prompts.schema import Intent


class Judgement(NamedTuple):
    """A verdict, the judge's own words, and the language of the reply."""

    verdict: Verdict
    raw: str
    response_language: str


class Judge(Protocol):
    """Anything that judges a batch of replies; all lists have one entry per reply."""

    name: str
    version: str

    def judge(
        self, prompts: list[str], responses: list[str], languages: list[str], intents: list[Intent]
    ) -> list[Judgement]: ...
