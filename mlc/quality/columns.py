"""Translation quality as plain columns of a long frame: one line per row and language.

``long_frame`` makes the frame; every other function takes it and returns one column with its index. The frame holds
``set``, ``id``, ``intent``, ``language``, ``text`` (null where the row lacks the language) and ``source_text`` (the
row's text in the source language, null where it has none). A null in a quality column means "not checked": the text is
missing or holds no letters, or the check cannot say anything about its language. A null never counts as passed.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import regex

from mlc.progress import track
from mlc.prompts.schema import PromptRow
from mlc.quality import language as languages

# Translations of ordinary requests vary in length by a tenth and more. In a set that varies less (short requests from
# one template, or the source against itself) a small spread would turn ordinary rows into outliers.
_SMALLEST_SPREAD = 0.1
_MAD_TO_DEVIATION = 1.4826  # makes the median absolute deviation of a normal distribution its standard deviation


def long_frame(sets: Mapping[str, Sequence[PromptRow]], tags: Sequence[str], source: str) -> pd.DataFrame:
    """One line per row and language of ``tags``, in the order of the sets, their rows, and ``tags``."""
    lines = [
        (name, row.id, row.intent, tag, row.prompts.get(tag), row.prompts.get(source))
        for name, rows in sets.items()
        for row in rows
        for tag in tags
    ]
    return pd.DataFrame(lines, columns=["set", "id", "intent", "language", "text", "source_text"], dtype=object)


def normalise(text: str) -> str:
    """``text`` without case, punctuation, and differences of spacing or of Unicode form."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(regex.findall(r"[\p{L}\p{M}\p{N}]+", folded))


def _normalised(texts: pd.Series) -> pd.Series:
    """Normalised texts; null for missing ones and for those of which nothing remains."""
    return pd.Series([(normalise(t) or None) if isinstance(t, str) else None for t in texts], texts.index, dtype=object)


def _has_letters(texts: pd.Series) -> pd.Series:
    return pd.Series([isinstance(t, str) and bool(regex.search(r"\p{L}", t)) for t in texts], texts.index, dtype=bool)


def empty(frame: pd.DataFrame) -> pd.Series:
    """Whether the text holds no letter; null where it is missing.

    Fails on: a request that truly is only digits or signs ("2 + 2 = ?").
    """
    return (~_has_letters(frame["text"])).astype(object).where(frame["text"].notna(), None)


def script_share(frame: pd.DataFrame) -> pd.Series:
    """Share of the letters that are in the script of the text's language, 0 to 1; null where that is not known.

    Fails on: languages that share a script (Spanish left in English scores 1), and names or code in another script,
    which weigh more in dense scripts: one Latin name of ten letters is half of a short Chinese request.
    """
    known = {tag: languages.script_known(tag) for tag in frame["language"].unique()}
    shares = [
        languages.script_share(text, tag) if ok and known[tag] else np.nan
        for text, tag, ok in zip(frame["text"], frame["language"], _has_letters(frame["text"]), strict=True)
    ]
    return pd.Series(shares, frame.index, dtype=float)


def identified(frame: pd.DataFrame) -> pd.Series:
    """Language subtag that identification gives the text; null without letters.

    Fails on: texts of a few words, mixed texts, and close relatives (Hindi and Nepali, Chinese and Wu).
    """
    texts = frame["text"].where(_has_letters(frame["text"]), None)
    known = {text: languages.identify(text) for text in track(texts.dropna().unique(), "identifying languages")}
    return pd.Series([known.get(text) for text in texts], frame.index, dtype=object)


def right_language(frame: pd.DataFrame) -> pd.Series:
    """Whether the column ``identified`` names the text's language; null where identification does not cover it.

    Fails on: what ``identified`` fails on, so it is a measure of a language in a set, never of one text.
    """
    covered = {tag: languages.covered(tag) for tag in frame["language"].unique()}
    right = [
        languages.same_language(tag, found) if isinstance(found, str) and covered[tag] else None
        for tag, found in zip(frame["language"], frame["identified"], strict=True)
    ]
    return pd.Series(right, frame.index, dtype=object)


def length_ratio(frame: pd.DataFrame) -> pd.Series:
    """Characters of the text per character of its source text; null where either has no letters.

    Fails on: nothing by itself, but it compares only within a language: Chinese needs a third of English's characters.
    """
    both = _has_letters(frame["text"]) & _has_letters(frame["source_text"])
    text, source = (frame[name].where(both, "").str.strip().str.len() for name in ("text", "source_text"))
    return (text / source.where(both, np.nan)).astype(float)


def length_deviation(frame: pd.DataFrame) -> pd.Series:
    """How far the logarithm of ``length_ratio`` is from its median for the language in the set, in robust deviations.

    Fails on: a language of which most texts are cut off alike (the median moves along), and a very short source, where
    one word more doubles the ratio.
    """
    log = frame["length_ratio"].map(math.log, na_action="ignore")
    pair = [frame["set"], frame["language"]]
    distance = log - log.groupby(pair).transform("median")
    spread = _MAD_TO_DEVIATION * distance.abs().groupby(pair).transform("median")
    return distance / spread.clip(lower=_SMALLEST_SPREAD)


def untranslated(frame: pd.DataFrame, source: str) -> pd.Series:
    """Whether the text is its source text, wholly or in most of its words; null where there is nothing to compare.

    Most of its words counts only where identification also takes the text for the source language: one check alone is
    wrong too often (a request made of names; a short text), both together were never wrong on the sets at hand.
    Fails on: a request that is the same in both languages ("Obama?"), a source language written without spaces, of
    which only whole copies are seen, and a paraphrase of the source in its own language.
    """
    texts, sources = _normalised(frame["text"]), _normalised(frame["source_text"])
    comparable = texts.notna() & sources.notna() & (frame["language"] != source)
    taken_for_source = [isinstance(f, str) and languages.same_language(source, f) for f in frame["identified"]]
    copied = [
        (text == original or (maybe and _shared_words(text, original) > 0.5)) if ok else None
        for text, original, maybe, ok in zip(texts, sources, taken_for_source, comparable, strict=True)
    ]
    return pd.Series(copied, frame.index, dtype=object)


def _shared_words(text: str, original: str) -> float:
    words = text.split()
    return len(set(words).intersection(original.split())) / len(set(words))


def duplicate_of(frame: pd.DataFrame) -> pd.Series:
    """Id of an earlier row of the set with the same text in the language, null where there is none.

    Where the rows disagree on the intent, one of them is mislabelled or mistranslated and nobody can say which, so all
    of them have another's id. Fails on: paraphrases, and a first row that is itself in quarantine, which takes its
    repetition along.
    """
    lines = frame[["id", "intent"]]
    same = lines.groupby([frame["set"], frame["language"], _normalised(frame["text"])], sort=False)
    first, last = same["id"].transform("first"), same["id"].transform("last")
    contradictory = same["intent"].transform("nunique") > 1
    other = first.where(first != frame["id"], last.where(contradictory, None))
    return other.astype(object).where(other.notna(), None)


def leaked_from(frame: pd.DataFrame, order: Sequence[str]) -> pd.Series:
    """``set/id`` of a row with the same text in the same language in a later set of ``order``, null without one.

    ``order`` goes from what is trained on to what is judged by. Fails on: paraphrases, and two different requests that
    one language happens to word alike.
    """
    texts = _normalised(frame["text"])
    key = pd.Series(list(zip(frame["language"], texts, strict=True)), frame.index)
    found = pd.Series(None, frame.index, dtype=object)
    for number, name in enumerate(order):
        later = frame["set"].isin(order[number + 1 :]) & texts.notna()
        where = (frame["set"] + "/" + frame["id"])[later].groupby(key[later]).first()
        own = (frame["set"] == name) & texts.notna()
        found[own] = key[own].map(where)
    return found.where(found.notna(), None)


def add_quality(frame: pd.DataFrame, source: str, order: Sequence[str]) -> pd.DataFrame:
    """The frame of ``long_frame`` with every quality column."""
    frame = frame.assign(empty=empty(frame), script_share=script_share(frame), identified=identified(frame))
    frame = frame.assign(
        right_language=right_language(frame),
        length_ratio=length_ratio(frame),
        untranslated=untranslated(frame, source),
        duplicate_of=duplicate_of(frame),
        leaked_from=leaked_from(frame, order),
    )
    return frame.assign(length_deviation=length_deviation(frame))
