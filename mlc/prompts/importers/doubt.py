"""Whether a source's texts are in the languages that they are called: a sample of each language is looked at.

A text is surely in another language where two independent identifiers agree on one, both sure, or where none of its
letters is of a script that its language is written in. On right translations that does not happen (none of 19,491,
benchmarks/importing.py), and on wrong ones not always: of Spanish requests called English, 38%. Therefore a small
share of such texts is enough, and its size says little.

Both identifiers can also be sure of the right language. Of some languages they are of most texts, so a column of which
they never are is in another language, be it one that neither knows: no Yoruba text is surely not English.

What a set is translated *from* is another matter: translators leave texts as they were, and validation finds each.
A column is only refused as the source language where most of it is.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import langcodes
import regex
from langcodes.data_dicts import LIKELY_SUBTAGS

from mlc.errors import MlcError
from mlc.languages.identify import covered, surely_other
from mlc.prompts.importers.drafts import Draft

LOOKED_AT = 100  # texts of a language in a file; drawn alike over it
LONGEST = 2000  # characters of one text; identification needs no more
ANOTHER = 0.1  # refused where surely more than this share is in another language; see above
LEFT_AS_THEY_WERE = 0.5  # and where that is the source language
WARNED_OF = 0.05
FEWEST_LETTERS = 8
# Languages of which both identifiers are sure in 79 to 100% of right texts (benchmarks/importing.py).
WELL_KNOWN = frozenset({"bn", "de", "en", "fr", "it", "ja", "ko", "nl", "pl", "ru", "th", "vi"})
NEVER = 0.1  # share of texts surely in a well-known language, below which a column surely is not in it
LONG = 20  # letters of a text that its language should show
NO_LANGUAGE = "qaa"  # a tag for private use: whatever a text is in, it is not this
_SCRIPTS = {"Hans": "Han", "Hant": "Han", "Hanb": "Han", "Jpan": "Han Hiragana Katakana", "Kore": "Hangul Han"}


@dataclass(frozen=True)
class Column:
    """Texts that are called one language."""

    place: str  # the file and the field
    tag: str
    told: bool  # by the command line, not by the file


def doubt(drafts: Iterable[Draft], tag_of: Mapping[str, str], source: str, location: str) -> list[str]:
    """Looks at a sample of every column; returns a warning for each that holds some texts of another language.

    Raises:
        MlcError: a column is surely in another language than it is called.
    """
    columns: dict[Column, list[str]] = {}
    for draft in drafts:
        for name, text in draft.texts.items():
            column = Column(draft.places.get(name, location), tag_of[name], draft.language_told)
            columns.setdefault(column, []).append(text)
        replies = {"chosen": (source, draft.chosen), "rejected": (source, draft.rejected)}
        replies |= {f"references {name}": (tag_of[name], text) for name, text in draft.references.items()}
        for name, (tag, reply) in replies.items():
            place = draft.places.get(name, f"{location}, {name}")
            if reply:
                columns.setdefault(Column(place, tag, draft.language_told), []).append(reply)
    found = (_look(column, texts, source) for column, texts in columns.items())
    return [warning for warning in found if warning]


def _look(column: Column, texts: list[str], source: str) -> str | None:
    if not covered(column.tag):
        return None
    sample = [text[:LONGEST] for text in random.Random(0).sample(texts, min(LOOKED_AT, len(texts)))]
    named = {text: other for text in sample if (other := surely_not(text, column.tag))}
    foreign = sum(text in named and (column.tag == source or surely_not(text, source) is not None) for text in sample)
    others = Counter(named[text] for text in sample if text in named)
    count = others.total()
    seen = ", ".join(f"{name} {n}" for name, n in others.most_common(3))
    what = f"{column.place}: called {column.tag}, but {count} of {len(sample)} texts looked at are surely not ({seen})"
    if _interval(foreign, len(sample))[0] > ANOTHER or _interval(count, len(sample))[0] > LEFT_AS_THEY_WERE:
        raise MlcError(f"{what}. {_advice(column, others, source)}")
    if _never(column.tag, sample):
        raise MlcError(
            f"{column.place}: called {column.tag}, but of {len(sample)} texts looked at hardly any is surely in it, "
            f"where most would be. {_advice(column, others, source)}"
        )
    return f"{what}; validation looks at each" if count / len(sample) >= WARNED_OF else None


def _advice(column: Column, others: Counter[str], source: str) -> str:
    if column.tag != source:
        return "Correct the file, or the name that the language has in it"
    if not column.told:
        return (
            f"Rows need request and replies in the source language, {source}: correct the file, or name another one "
            "with --source-language"
        )
    languages = [name for name, _ in others.most_common() if langcodes.tag_is_valid(name)]
    if len(languages) > 1 and 2 * others[languages[0]] < others.total():
        return "Make a file of each language, and import it with its --source-language"
    tag = langcodes.standardize_tag(languages[0]) if languages else "TAG"
    return f"Name the language that it is in: --source-language {tag}"


def surely_not(text: str, tag: str) -> str | None:
    """The language that a text surely is in, or its script, if it is not that of ``tag``; else None."""
    if other := surely_other(text, tag):
        return other
    letters = regex.findall(r"\p{L}", text)
    ours = _letters_of(tag).findall("".join(letters))
    if len(letters) < FEWEST_LETTERS or len(ours) > len(letters) / 10:
        return None
    scripts = Counter(re.split("[ -]", unicodedata.name(letter, "unknown"))[0] for letter in letters)
    return f"{scripts.most_common(1)[0][0].capitalize()} script"


def surely_in(text: str, tag: str) -> bool:
    """Whether both identifiers are sure of a language, and nothing speaks against its being that of ``tag``."""
    return surely_other(text, NO_LANGUAGE) is not None and surely_not(text, tag) is None


def _never(tag: str, sample: list[str]) -> bool:
    """Whether next to no text is surely in a language that nearly every text shows; a text that is repeated is one."""
    long = [text for text in dict.fromkeys(sample) if len(regex.findall(r"\p{L}", text)) >= LONG]
    if tag not in WELL_KNOWN or not long:
        return False
    sure = sum(surely_in(text, tag) for text in long)
    return _interval(sure, len(long))[1] < NEVER


@cache
def _letters_of(tag: str) -> regex.Pattern[str]:
    """Letters of all scripts that Unicode lists for a language: Latin, Cyrillic and Arabic for Uzbek."""
    language = langcodes.Language.get(tag)
    listed = (langcodes.Language.get(full) for short, full in LIKELY_SUBTAGS.items()
              if short.split("-")[0] == language.language)  # fmt: skip
    scripts = {language.maximize().script or "Zyyy", *(full.script for full in listed if full.script)}
    names = {name for script in scripts for name in _SCRIPTS.get(script, script).split()}
    return regex.compile("|".join(rf"\p{{Script={name}}}" for name in sorted(names) if _known(name)) or r"\p{L}")


def _known(script: str) -> bool:
    try:
        return bool(regex.compile(rf"\p{{Script={script}}}"))
    except regex.error:
        return False


def _interval(count: int, total: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson, 1927)."""
    from scipy.stats import binomtest

    found = binomtest(count, total).proportion_ci(0.95, "wilson")
    return float(found.low), float(found.high)
