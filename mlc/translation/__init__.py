"""Translators: they fill in the missing variants of a prompt set, and translate variants back.

A translator turns requests into results, in any order, each as soon as it is there. What it says is never made up: a
result holds a text, or the reason why there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from mlc.errors import MlcError


class Request(NamedTuple):
    """A text and the BCP-47 tags to translate it between."""

    text: str
    source: str
    target: str


class Result(NamedTuple):
    """The translation of a request, or else the reason of its failure; exactly one of them is given."""

    request: Request
    translation: str | None = None
    failure: str | None = None


class Translator(Protocol):
    """Any means of translation. ``name`` and ``version`` are the whole of what decides its answers; ``licence`` is the
    SPDX identifier that it names itself, which its translations are taken to be under, None where it names none."""

    name: str
    version: str
    licence: str | None

    def check(self, pairs: set[tuple[str, str]]) -> None:
        """Raises ``MlcError`` naming the languages of (source, target) ``pairs`` that it cannot translate."""

    def translate(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Yields one result per request, unless it raises ``Stopped``; closing it leaves nothing running."""


class TranslationError(MlcError):
    """Some texts were not translated. What was translated is written all the same."""

    exit_code = 6


class Stopped(TranslationError):
    """A translator cannot or must not go on: the endpoint refuses, the money is spent."""
