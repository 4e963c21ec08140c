"""Which language and which script a text is in, and which languages count as the same.

What single texts of a prompt set are checked by (mlc.quality). Whether a reply is in the prompt's language, with the
third answer that it cannot be said, is mlc.languages.check's to say.
"""

from __future__ import annotations

from functools import cache

import langcodes
import regex
from langcodes.data_dicts import LIKELY_SUBTAGS

from mlc.languages import identifiers

# ISO 15924 codes that stand for several Unicode scripts, or for one of another name.
_SCRIPTS = {
    "Hanb": ("Han", "Bopomofo"),
    "Hani": ("Han",),
    "Hans": ("Han",),
    "Hant": ("Han",),
    "Jamo": ("Hangul",),
    "Jpan": ("Han", "Hiragana", "Katakana"),
    "Kore": ("Hangul", "Han"),
}
# Scripts in use that Unicode's likely subtags do not list.
_ALSO = {"bs": ("Cyrl",), "kk": ("Latn",), "ks": ("Deva",), "tt": ("Latn",), "ug": ("Latn",)}
# CLDR's distance up to which a language found is the one asked for: Croatian, Serbian, Bosnian are 8 and 9 apart, the
# dialects of Arabic 10 from Arabic. Beyond are languages of their own: Danish 12 from Bokmål, Indonesian 14 from Malay,
# Nynorsk 20 from Bokmål, Czech 24 from Slovak.
SAME = 10
# CLDR has their distance from Mandarin, and none from each other.
_CHINESE = frozenset({"zh", "cjy", "gan", "hak", "hsn", "lzh", "nan", "wuu", "yue"})
# What the second identifier alone knows, of the languages that a safety set has been made in.
_SECOND_ONLY = frozenset({"ckb"})


@cache
def subtag(label: str) -> str:
    """The language subtag of a tag or of an identifier's label: ``fil`` of ``tl`` and of ``tgl_Latn``."""
    try:
        return langcodes.Language.get(label.replace("_", "-")).language or "und"
    except langcodes.LanguageTagError:
        return "und"


@cache
def distance(asked: str, found: str) -> int:
    """How far the language found is from the one asked for (CLDR, by langcodes), whatever their scripts and regions.

    0 is the same, 8 and 9 are Croatian and Serbian, 80 and more are unrelated. One way: a dialect is near its language,
    and the language farther from the dialect.
    """
    one, other = subtag(asked), subtag(found)
    # In one script: Serbian and Croatian are near each other in whatever script each is usually written.
    return 0 if one == other else int(langcodes.tag_distance(f"{other}-Latn", f"{one}-Latn"))


def nearness(one: str, other: str) -> int:
    """The smaller of the two distances between languages."""
    if {subtag(one), subtag(other)} <= _CHINESE:
        return 0
    return min(distance(one, other), distance(other, one))


def same_language(tag: str, identified: str) -> bool:
    """Whether an identified language is the one that a BCP-47 tag names, whatever its script or region.

    By distance, not by spelling: ``tl`` is ``fil``, ``no`` is ``nb``, ``gug`` is ``gn``, and Serbian, Croatian and
    Bosnian, which no identifier tells apart, are one.
    """
    return identified != "und" and distance(tag, identified) <= SAME


@cache
def covered(language: str) -> bool:
    """Whether language identification knows ``language`` at all; where it does not, nothing is claimed."""
    labels = identifiers.first().labels
    return subtag(language) in _SECOND_ONLY or any(same_language(language, label) for label in labels)


def identify(text: str) -> str:
    """The language subtag of ``text`` (``en``), ``und`` when it holds no letters.

    Short texts in closely related languages are confused; a text of under about three words is a guess. Sorani is
    looked for with a second identifier, for the first one takes it for Southern Kurdish.
    """
    if not regex.search(r"\p{L}", text):
        return "und"
    first = _first_guess(text)[0]
    if first in ("sdh", "ku", "ug", "fa") and (second := _second_guess(text)[0]) in _SECOND_ONLY:
        return second
    return first


def _first_guess(text: str) -> tuple[str, float]:
    return identifiers.first().likeliest(text)


def _second_guess(text: str) -> tuple[str, float]:
    return next(iter(identifiers.second().guesses(text).items()), ("und", 0.0))


def surely_other(text: str, language: str) -> str | None:
    """The language subtag on which two independent identifiers agree against ``language``, both sure of it, or None.

    Varieties of the language (Egyptian Arabic, Bokmål) are not others. On 12,000 right translations into 18 languages
    (PolyRefuse, MultiJail, the embedded prompts) both were never wrong together. Fails on: languages that one of the
    two does not know, and texts of a few words.
    """
    if len(regex.findall(r"\p{L}", text)) < 8:
        return None
    first, probability = _first_guess(text)
    if probability < 0.9 or same_language(language, first):
        return None
    second, score = _second_guess(text)
    if second != first or score < 0.5 or langcodes.tag_distance(language, first) < 10:
        return None
    return first


def script_known(language: str) -> bool:
    """Whether it is known which script ``language`` is written in: the tag names it (``ctg-Beng``), or Unicode does.

    For a language that Unicode does not list, langcodes would answer with Latin.
    """
    tag = langcodes.Language.get(language)
    return tag.script is not None or tag.language in LIKELY_SUBTAGS


def _pattern(scripts: tuple[str, ...]) -> regex.Pattern[str]:
    names = "".join(rf"\p{{Script={name}}}" for script in scripts for name in _SCRIPTS.get(script, (script,)))
    return regex.compile(rf"[{names}]")


@cache
def _script_pattern(language: str) -> regex.Pattern[str]:
    return _pattern((langcodes.Language.get(language).maximize().script or "Zyyy",))


def script_share(text: str, language: str) -> float:
    """The share of the letters of ``text`` that belong to the script ``language`` is written in, 0 without letters.

    Says something only where ``script_known``.
    """
    return _share(text, _script_pattern(language))


@cache
def _any_script_pattern(language: str) -> regex.Pattern[str]:
    tag = langcodes.Language.get(language)
    if tag.script is not None:
        return _pattern((tag.script,))
    parts = (
        part
        for entry in LIKELY_SUBTAGS.items()
        for spelled in entry
        if spelled.split("-")[0] == tag.language
        for part in spelled.split("-")[1:]
    )
    found = {part for part in parts if len(part) == 4 and part.isalpha()}
    return _pattern((*sorted(found), *_ALSO.get(tag.language or "und", ())))


def any_script_share(text: str, language: str) -> float:
    """Likewise of any script that the language is written in somewhere, Serbian in Latin too; of the tag's, if it
    names one.

    Says something only where ``script_known``.
    """
    return _share(text, _any_script_pattern(language))


def _share(text: str, pattern: regex.Pattern[str]) -> float:
    letters = list(filter(str.isalpha, text)) if text.isascii() else regex.findall(r"\p{L}", text)
    return len(pattern.findall("".join(letters))) / len(letters) if letters else 0.0
