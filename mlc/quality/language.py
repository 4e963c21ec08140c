"""Which language and which script a text is in."""

from __future__ import annotations

from functools import cache

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


def covered(language: str) -> bool:
    """Whether language identification knows ``language`` at all; where it does not, nothing is claimed."""
    return langcodes.Language.get(language).language in _identifier().labels


def identify(text: str) -> str:
    """The language subtag of ``text`` (``en``), ``und`` when it holds no letters.

    Short texts in closely related languages are confused; a text of under about three words is a guess.
    """
    if not regex.search(r"\p{L}", text):
        return "und"
    return str(_identifier().classify(text)[0])


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
