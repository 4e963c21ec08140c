"""How numbers and foreign text look, everywhere: on the terminal, in the report, in the model card and in Prefect.

A prompt set is read by people, and its texts come from anywhere: an escape sequence would drive the terminal, a
right-to-left override would show another text than the model is given, a tag would run in the page.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal, TypedDict, get_args

LONGEST = 200  # characters of one text in a message
LONGEST_ON_PAGE = 600  # characters of a prompt or reply on a page; enough to see what it is
MISSING = "–"
_BEFORE = 40  # characters shown before the first difference of two texts
_JOINERS = "\u200c\u200d"
# On a page, line breaks stay; joiners and marks of direction are part of honest text; nothing there reads a backslash.
_ON_PAGE = frozenset("\n\t\\\u200e\u200f" + _JOINERS)
# All of what may begin something in CommonMark, its tables, autolinks, GitHub's mathematics and emoji.
_MARKDOWN = re.compile(r"""[\\`*_{}\[\]()<>"&#|~^$:@!]|(?<=www)\.""", re.IGNORECASE)

RateName = Literal[
    "safe_rate", "attack_success_rate", "over_refusal", "invalid", "fidelity", "refusal_fidelity", "cut_off"
]  # of an evaluation: a share of prompts
RATE_NAMES: tuple[RateName, ...] = get_args(RateName)
# The rates that people look at first, in this order.
HEADLINE_RATES: tuple[RateName, ...] = ("safe_rate", "over_refusal", "fidelity", "invalid")
_TITLES = {
    "safe_rate": "safe rate",
    "attack_success_rate": "attack success",
    "over_refusal": "over-refusal",
    "invalid": "invalid",
    "fidelity": "language fidelity",
    "refusal_fidelity": "refusal fidelity",
    "cut_off": "cut off",
    "perplexity_ratio": "perplexity ratio",
    "perplexity": "perplexity",
    "pag_benign": "agreement on benign prompts",
    "pag": "pairwise agreement (PAG)",
    "task_accuracy": "task accuracy",
}


class Interval(TypedDict):
    """The ends of an interval and the value in it: what is shown of an estimate."""

    value: float
    low: float
    high: float


def title(name: str) -> str:
    """What a rate or a rule is called: ``over_refusal_mean`` -> ``over-refusal mean``."""
    for rate, rate_title in _TITLES.items():
        if name == rate or name.startswith(f"{rate}_"):
            return f"{rate_title}{name.removeprefix(rate).replace('_', ' ')}"
    return name.replace("_", " ")


def heading(name: str) -> str:
    """``title`` as a heading begins: ``Over-refusal mean``."""
    return title(name)[0].upper() + title(name)[1:]


def percent(share: float | None) -> str:
    """``0.3125`` -> ``31.2%``; a dash for none."""
    return MISSING if share is None else f"{_tenths(share)}%"


def _tenths(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f}"  # + 0.0: nothing below zero is no minus zero


def number(value: float | None) -> str:
    """``1.04672`` -> ``1.047``; a dash for none."""
    return MISSING if value is None else f"{value:.3f}"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, without a unit: ``0.021`` -> ``+2.1``."""
    return f"{'+' if difference >= 0 else ''}{_tenths(difference)}"


def interval(estimate: Interval, unit: str = "percent") -> str:
    """``91.2–97.0%``, the interval of an estimate."""
    if unit == "percent":
        return f"{_tenths(estimate['low'])}–{_tenths(estimate['high'])}%"
    return f"{number(estimate['low'])}–{number(estimate['high'])}"


def with_interval(estimate: Interval) -> str:
    """``94.5% (91.2–97.0%)``."""
    return f"{percent(estimate['value'])} ({interval(estimate)})"


def visible(text: str, keep: frozenset[str] = frozenset()) -> str:
    r"""``text`` on one line, with what cannot be seen, or acts, as in a Python literal: ``\n``, ``\x1b``, ``\u202e``.

    Two texts never look the same: a backslash is doubled. Joiners stay where Arabic and Indic scripts need them, after
    a letter without case or a mark. Characters in ``keep`` stay wherever they are.
    """
    escaped, before = [], ""
    for character in text:
        joins = character in _JOINERS and before != "" and unicodedata.category(before) in ("Lo", "Mn", "Mc")
        space = unicodedata.category(character) == "Zs"
        plain = character in keep or (character != "\\" and (character.isprintable() or space or joins))
        escaped.append(character if plain else character.encode("unicode_escape").decode("ascii"))
        before = character
    return "".join(escaped)


def on_page(text: str) -> str:
    """A prompt or reply as a page shows it: ``visible`` with its line breaks, cut to length."""
    more = len(text) - LONGEST_ON_PAGE
    excerpt = visible(text[:LONGEST_ON_PAGE], _ON_PAGE)
    return f"{excerpt} … ({more:,} more characters)" if more > 0 else excerpt


def markdown(text: str) -> str:
    """``text`` as plain words of a Markdown page: no markup, no HTML, no link, on one line."""
    return _MARKDOWN.sub(lambda match: f"&#{ord(match[0])};", visible(text)).strip()


def quoted(text: str, start: int = 0, longest: int = LONGEST) -> str:
    """``text`` from ``start`` on as a Python literal, in quotes; what is left out is said."""
    part = repr(text[start : start + longest])
    left = len(text) - start - longest
    before = f"({start:,} characters) … " if start else ""
    return f"{before}{part}{f' … ({left:,} characters more)' if left > 0 else ''}"


def quoted_name(name: str) -> str:
    """An id, tag or field name: as it is where that is harmless, else as ``quoted``."""
    return name if name.isprintable() and len(name) <= LONGEST else quoted(name)


def quoted_pair(old: str, new: str) -> tuple[str, str]:
    """Two versions of a text, both from shortly before their first difference on."""
    same = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, same - _BEFORE) if same > LONGEST - _BEFORE else 0
    return quoted(old, start), quoted(new, start)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def one_line(error: object, longest: int = 200) -> str:
    """What an error says, in one line and cut to length; its type where it says nothing."""
    return " ".join(str(error).split())[:longest] or type(error).__name__
