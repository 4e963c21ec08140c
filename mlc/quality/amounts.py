"""Amounts that a translator put into another currency or unit: 250 dollars that became 8,800 baht.

The names of currencies and units are those of CLDR, by Babel, in the languages of the source text and of the text.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import langcodes
import regex
from babel import Locale, UnknownLocaleError
from babel.core import get_global

from mlc.quality.preserved import NUMBER

_KINDS = ("area", "length", "mass", "speed", "temperature", "volume")  # of units that countries have their own of
_WORD = regex.compile(r"[\p{L}\p{M}]+")
_NAME = regex.compile(r"[\p{L}\p{Sc}°′″]")
_SIGN_BEFORE = regex.compile(r"(\p{Sc}|(?<![\p{L}\p{M}])\p{L}{1,4})\s?\Z")  # $250, KES35,000, Rp 75.000
_WORD_BETWEEN = regex.compile(r"\s*[\p{L}\p{M}]+")
# Scripts that write a number and its unit, or words, without a space between them.
_DENSE = regex.compile(r"\s*[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]")
_STEM = 4  # letters; a shorter name (m, lb, kr, leu) must be a whole word, a longer one may have an ending (টাকার)
_BEFORE, _AFTER = 12, 24  # characters around a number that can hold its currency or unit


@cache
def _names(language: str) -> Mapping[str, frozenset[str]]:
    """A name, sign or code of a currency or unit, case folded -> what it can stand for."""
    means: defaultdict[str, set[str]] = defaultdict(set)
    money = _money()
    for locale in _locales(language):
        for code, name in locale.currencies.items():
            if code not in money:
                continue
            means[code.casefold()].add(code)
            for word in _WORD.findall(name.casefold()):
                means[word].add(code)
        for code, forms in locale._data["currency_names_plural"].items():
            for name in forms.values() if code in money else ():
                for word in _WORD.findall(name.casefold()):
                    means[word].add(code)
        for code, sign in locale.currency_symbols.items():
            if code not in money:
                continue
            means[sign.casefold()].add(code)
            if not sign[-1].isalnum():  # the $ of US$ is what texts have
                means[sign[-1]].add(code)
        for unit, widths in locale._data["unit_patterns"].items():
            if unit.startswith(_KINDS):
                for forms in widths.values():
                    for pattern in forms.values():
                        if isinstance(pattern, str) and (name := pattern.replace("{0}", "").strip()):
                            means[name.casefold()].add(unit)
    return {name: frozenset(kinds) for name, kinds in means.items() if _NAME.match(name)}


@cache
def _money() -> frozenset[str]:
    """Codes of what is paid with somewhere today, without funds and old money (CNX, the People's Bank dollar)."""
    return frozenset(
        code
        for currencies in get_global("territory_currencies").values()
        for code, _, end, tender in currencies
        if tender and end is None
    )


def _locales(language: str) -> list[Locale]:
    """CLDR's, of the language and of English, whose codes and signs are used everywhere."""
    found = []
    for tag in dict.fromkeys((langcodes.Language.get(language).to_tag(), langcodes.get(language).language or "", "en")):
        try:
            found.append(Locale.parse(tag, sep="-"))
        except (UnknownLocaleError, ValueError):
            continue
    return found


class _Amount(NamedTuple):
    """What a number in a text can be an amount of, and the number with the name that says so."""

    kinds: frozenset[str]
    written: str


def _amount(text: str, number: regex.Match[str], names: Mapping[str, frozenset[str]]) -> _Amount:
    start, end = number.span()
    found: set[str] = set()
    sign = _SIGN_BEFORE.search(text[max(0, start - _BEFORE) : start])
    if sign and (kinds := names.get(sign[1].casefold())):
        return _Amount(kinds, sign[0] + number[0])
    written = number[0]
    after = text[end : end + _AFTER]
    # A word may stand between: 30만 원, 2 million dollars.
    first = _WORD_BETWEEN.match(after)
    for place in dict.fromkeys((0, 1 if _DENSE.match(after) else 0, first.end() if first else 0)):
        space = len(after) - place - len(after[place:].lstrip())
        kinds, length = _begins(after[place + space :], names)
        if kinds and not found:
            written = number[0] + after[: place + space + length]
        found |= kinds
    return _Amount(frozenset(found), written)


def _begins(text: str, names: Mapping[str, frozenset[str]]) -> tuple[frozenset[str], int]:
    """What the longest name at the beginning of the text stands for, and its length."""
    for length in range(len(text), 0, -1):
        kinds = names.get(text[:length].casefold())
        if kinds:
            goes_on = text[length : length + 1].isalpha()
            if not goes_on or length >= _STEM or _DENSE.match(text):
                return kinds, length
    return frozenset(), 0


def localised(
    source: str, text: str, gone: Sequence[str], source_language: str, language: str
) -> list[tuple[str, str]]:
    """Of the ``gone`` pieces of the source text, the amounts that the text has in another currency or unit.

    An amount counts where it is one of a currency or unit in the source text, and the text has a number that the source
    text has not, of a currency or unit that the source's cannot be meant by. Returned are pairs of source's number and
    text's amount.

    Fails on: languages and names that CLDR does not have (元 for the yuan), amounts in words, and an amount that is
    wrong in the other currency: nobody knows the rate.
    """
    theirs = {match.group() for match in NUMBER.finditer(source)}
    names = _names(language)
    amounts = [_amount(text, match, names) for match in NUMBER.finditer(text) if match.group() not in theirs]
    names = _names(source_language)
    pairs = []
    for piece in dict.fromkeys(gone):
        kinds = frozenset[str]().union(
            *(_amount(source, match, names).kinds for match in NUMBER.finditer(source) if match.group() == piece)
        )
        other = next((amount for amount in amounts if kinds and amount.kinds and not kinds & amount.kinds), None)
        if other is not None:
            pairs.append((piece, other.written))
    return pairs
