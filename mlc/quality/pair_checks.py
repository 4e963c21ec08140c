"""What a text shows beside its source text.

Every function takes texts and their source texts (null where a row lacks one) and returns one value per pair, null
where there is nothing to compare. The source texts themselves are not passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import regex
from ruamel.yaml import YAML

from mlc.quality.amounts import localised
from mlc.quality.preserved import lost as preserved_lost
from mlc.quality.text_checks import has_letters, normalise

Texts = Sequence[str | None]

_QUOTED = regex.compile(r"""["“„«][^"“”„«»]{1,400}["”“»]|(?<!\w)['‘‚][^'‘’]{1,400}['’](?!\w)""")
_WORD = regex.compile(r"\|(?= )|[\p{L}\p{M}]+")  # numbers rightly stay
_SHORTEST_RUN = 3  # words; two are a name


def length_ratio(texts: Texts, sources: Texts) -> list[float | None]:
    """Characters of the text per character of its source text; null where either has no letters.

    Fails on: nothing by itself, but it compares only within a language: Chinese needs a third of English's characters.
    """
    both = zip(texts, sources, has_letters(texts), has_letters(sources), strict=True)
    return [len(t.strip()) / len(s.strip()) if a and b and t and s else None for t, s, a, b in both]


def untranslated(texts: Texts, sources: Texts, taken_for_source: Sequence[bool]) -> list[bool | None]:
    """Whether the text is its source text, wholly or in most of its words.

    Most of its words counts only where identification also takes the text for the source language: one check alone is
    wrong too often (a request made of names; a short text), both together were never wrong on the sets at hand.
    Fails on: a request that is the same in both languages ("Obama?"), a source language written without spaces, of
    which only whole copies are seen, and a paraphrase of the source in its own language (see ``language_margin``).
    """
    copied: list[bool | None] = []
    for text, source, maybe in zip(texts, sources, taken_for_source, strict=True):
        ours, theirs = normalise(text or ""), normalise(source or "")
        if not ours or not theirs:
            copied.append(None)
        else:
            our_words = set(ours.split())
            copied.append(
                ours == theirs or (maybe and len(our_words.intersection(theirs.split())) / len(our_words) > 0.5)
            )
    return copied


def leakage(texts: Texts, sources: Texts) -> list[float | None]:
    """The longest run of the source's own words in the text, as a share of the source's words; quotations not counted.

    A half-translated text has about 0.5. Numbers are no words here, and runs of fewer than three words count as 0:
    names have two. Fails on: titles of several words that stay as they are, and a source language written without
    spaces, of which a run is one sentence.
    """
    return [
        _longest_run(_WORD.findall(_QUOTED.sub(" | ", s).casefold()), _WORD.findall(t.casefold())) if t and s else None
        for t, s in zip(texts, sources, strict=True)
    ]


def _longest_run(source: Sequence[str], text: Sequence[str]) -> float:
    if not source:
        return 0.0
    vocabulary, haystack, best = set(text), f" {' '.join(text)} ", 0
    for start in range(len(source) - _SHORTEST_RUN + 1):
        if not vocabulary.issuperset(source[start : start + _SHORTEST_RUN]):
            continue
        length = max(best, _SHORTEST_RUN - 1) + 1
        while start + length <= len(source) and f" {' '.join(source[start : start + length])} " in haystack:
            best, length = length, length + 1
    return best / len(source)


def lost(
    texts: Texts, sources: Texts, language: str, source_language: str
) -> tuple[list[str | None], list[str | None]]:
    """The first number, link, placeholder or code span of the source that the text has not; ``""`` if all are there.
    And apart from these the first amount that the text has in another currency or unit, as ``250 -> 8,800 baht``.

    Fails on: a number written out as a word, and what ``amounts.localised`` fails on.
    """
    gone: list[str | None] = []
    converted: list[str | None] = []
    for text, source in zip(texts, sources, strict=True):
        if not text or not source:
            gone.append(None)
            converted.append(None)
            continue
        pieces = preserved_lost(source, text)
        pairs = localised(source, text, pieces, source_language, language) if pieces else []
        pieces = [piece for piece in pieces if piece not in dict(pairs)]
        gone.append(pieces[0] if pieces else "")
        converted.append(f"{pairs[0][0]} -> {pairs[0][1]}" if pairs else "")
    return gone, converted


@cache
def _phrases() -> tuple[regex.Pattern[str], regex.Pattern[str]]:
    """What a translator says about its work anywhere in a text, and what it begins an answer or a refusal with."""
    known = YAML(typ="safe", pure=True).load((files("mlc.quality") / "chatter.yaml").read_text(encoding="utf-8"))

    def any_of(phrases: Sequence[str]) -> str:
        return "|".join(regex.escape(phrase.casefold()) for phrase in phrases)

    about = [phrase for phrases in known["about_translating"].values() for phrase in phrases]
    openings = [phrase for phrases in known["openings"].values() for phrase in phrases]
    return regex.compile(any_of(about)), regex.compile(rf"^\W*(?:{any_of(openings)})")


def chatter(texts: Texts, sources: Texts) -> list[str | None]:
    """Words of a translator's own (a refusal, "Sure, here is the translation") that the source has not; ``""`` if none.

    Looked for are the phrases in chatter.yaml, in some thirty languages. Fails on: other phrasings, other languages
    (a refusal in place of the text also has no ``association`` with its source), and a source that says the same in
    words that are not listed for its language.
    """
    about, opening = _phrases()
    result: list[str | None] = []
    for text, source in zip(texts, sources, strict=True):
        if text is None or source is None:
            result.append(None)
            continue
        ours, theirs = text.casefold(), source.casefold()
        match = (about.search(ours) if not about.search(theirs) else None) or (
            opening.search(ours) if not opening.search(theirs) else None
        )
        result.append(match.group().strip() if match else "")
    return result


def back_translation(back: Texts, sources: Texts) -> list[float | None]:
    """chrF of the back-translation against the source text, 0 to 100; null for rows without one.

    Fails on: back-translations by the system that translated, which undoes its own mistakes, and good paraphrases,
    which score low; measured on short requests, another request's back-translation has about 15, a good one 50 and up.
    """
    if not any(back):
        return [None] * len(back)
    from sacrebleu.metrics import CHRF

    metric = CHRF()
    return [float(metric.sentence_score(b, [s]).score) if b and s else None for b, s in zip(back, sources, strict=True)]
