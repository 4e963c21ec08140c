"""Numbers and foreign text as the page shows them."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlc.evaluation.metrics import Estimate

NO_BREAK = "\N{NO-BREAK SPACE}"
MISSING = "–"
LONGEST = 600  # characters of a prompt or reply; enough to see what it is
# They reorder the text around them. The joiners and the left-to-right and right-to-left marks are part of honest text.
_REORDERING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def percent(share: float | None) -> str:
    """``0.3125`` -> ``31.2 %``."""
    return MISSING if share is None else f"{_tenths(share)}{NO_BREAK}%"


def _tenths(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f}"  # + 0.0: nothing below zero is no minus zero


def number(value: float | None) -> str:
    """``1.04672`` -> ``1.047``."""
    return MISSING if value is None else f"{value:.3f}"


def interval(estimate: Estimate, unit: str = "percent") -> str:
    """``91.2–97.0 %``, the interval of an estimate."""
    if unit == "percent":
        return f"{_tenths(estimate['low'])}–{_tenths(estimate['high'])}{NO_BREAK}%"
    return f"{number(estimate['low'])}–{number(estimate['high'])}"


def plain(text: str) -> str:
    """Text of unknown origin, made safe to look at: cut to length, control and reordering characters spelled out."""
    shown = "".join(_visible(character) for character in text[:LONGEST])
    more = len(text) - LONGEST
    return f"{shown} … ({more:,} more characters)" if more > 0 else shown


def _visible(character: str) -> str:
    if character in "\n\t":
        return character
    if ord(character) in _REORDERING or unicodedata.category(character) in {"Cc", "Cs"}:
        return f"[U+{ord(character):04X}]"
    return character
