"""The three answers to whether a text is in a language."""

from __future__ import annotations

from typing import Literal, NamedTuple

Answer = Literal["yes", "no", "cannot say"]


class Heard(NamedTuple):
    """Which language a text is in, ``und`` where that cannot be said; and whether it is the one asked about."""

    language: str
    answer: Answer
