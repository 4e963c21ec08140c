"""Translation quality as plain columns of a long frame: one line per row and language.

``long_frame`` makes the frame. Each quality column is one function of text_checks.py (the text alone), pair_checks.py
(beside its source text), identify.py, ngram_model.py, lengths.py and endings.py (what the set teaches), duplicates.py,
encoder.py, error_spans.py, or of this file (beside its language's other texts). A null in a quality column means "not
checked": the text is missing, too long or without letters, or the check cannot say anything about its language. A null
never counts as passed.

Columns are made in two steps, so that a set of any size needs only its compact columns in memory: ``text_columns`` for
a chunk of rows with their texts, ``set_columns`` for all lines together, without texts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlc.languages import identify
from mlc.prompts.schema import PromptRow
from mlc.quality import duplicates, error_spans, evidence, pair_checks, rating, text_checks
from mlc.quality.encoder import Encoder
from mlc.quality.lessons import Lessons, compared, learn
from mlc.quality.ngram_model import language_margins, ngrams
from mlc.quality.rating import Rater

_HALF = 0.5  # of the faulty texts; a check that cannot find as many without false alarms says nothing
_LINE = ("set", "id", "intent", "language")
WrongScores = Mapping[tuple[str, str], npt.NDArray[np.float32]]
"""(set, language) -> error scores of its wrong pairs."""


def long_frame(sets: Mapping[str, Iterable[PromptRow]], tags: Sequence[str], source: str) -> pd.DataFrame:
    """One line per row and language of ``tags``, in the order of the sets, their rows, and ``tags``.

    Columns: set, id, intent, language, text (null where the row lacks the language), source_text (the row's text in the
    source language, null where it has none), and back_translation.
    """
    lines = [
        (name, row.id, row.intent, tag, row.prompts.get(tag), row.prompts.get(source), row.back_translations.get(tag))
        for name, rows in sets.items()
        for row in rows
        for tag in tags
    ]
    return pd.DataFrame(lines, columns=[*_LINE, "text", "source_text", "back_translation"], dtype=object)


def learn_from(lines: pd.DataFrame, source: str) -> Lessons:
    """Learns from a sample of one set, as ``long_frame`` has it."""
    texts = {str(tag): _texts(group["text"]) for tag, group in lines.groupby("language", sort=False)}
    return learn(list(dict.fromkeys(lines["id"])), texts, source)


def _texts(column: pd.Series) -> list[str | None]:
    return [text if isinstance(text, str) else None for text in column]


def text_columns(
    lines: pd.DataFrame,
    source: str,
    lessons: Lessons,
    maximum_characters: Mapping[str, int],
    encoder: Encoder | None = None,
    rater: Rater | None = None,
) -> tuple[pd.DataFrame, npt.NDArray[np.uint16]]:
    """The columns that need texts, of a chunk of one set, and the MinHash signatures of its lines.

    The lines are in ``long_frame``'s order. ``script_share``, ``identified``, ``right_language``, ``other_language``,
    ``language_margin``, ``length_deviation``, ``wholeness``, ``association``, ``retrieved`` and ``error_score`` are
    documented where they are made.
    """
    tags = [str(tag) for tag in lines["language"].unique()]
    columns = {name: np.full(len(lines), None, dtype=object) for name in _OBJECTS}
    columns |= {name: np.full(len(lines), np.nan, dtype=np.float32) for name in _NUMBERS}
    marks = np.zeros((len(lines), 64), np.uint16)
    counts: dict[str, Any] = {}
    of_tag = {tag: np.flatnonzero((lines["language"] == tag).to_numpy()) for tag in tags}
    sources = _texts(lines["source_text"].iloc[of_tag[tags[0]]])
    most = maximum_characters.get(source, math.inf)
    sources = [None if s is None or len(s) > most else s for s in sources]
    usable: dict[str, list[str | None]] = {}
    for tag, at in of_tag.items():
        part, texts, counts[tag] = _one_language(lines.iloc[at], tag, sources, source, maximum_characters[tag])
        usable[tag] = texts
        for name, values in part.items():
            columns[name][at] = np.array(values, dtype=columns[name].dtype)
        marks[at] = duplicates.signatures(counts[tag])
    hashes = np.zeros(len(lines), np.uint64)
    ids = list(lines["id"].iloc[of_tag[tags[0]]])
    margins = language_margins(lessons.wording, ids, counts) if lessons.wording else {}
    columns_of = compared(lessons, ids, usable, sources, source, counts, encoder)
    for tag, at in of_tag.items():
        hashes[at] = duplicates.text_hash(usable[tag])
        if tag == source:  # what compares a text with its translations judges these
            columns["reads_like"][at] = ""
        elif tag in margins:
            columns["language_margin"][at], rivals = margins[tag]
            columns["reads_like"][at] = np.array(rivals, dtype=object)
        for name, values in columns_of.get(tag, {}).items():
            columns[name][at] = values
    for tag, rated in rating.columns(rater, usable, source) if rater else ():
        columns["error_score"][of_tag[tag]] = rated.error_score
        columns["errors"][of_tag[tag]] = np.array(rated.errors, dtype=object)
        columns["unrated"][of_tag[tag]] = np.array(rated.unrated, dtype=object)
    # As series, for pandas would take columns of texts and nulls for its own strings, whose null is NaN.
    series = {name: pd.Series(values, lines.index, dtype=values.dtype) for name, values in columns.items()}
    return lines[list(_LINE)].assign(present=lines["text"].notna(), **series, hash=hashes), marks


_OBJECTS = (
    "empty", "control_characters", "mojibake", "untranslated", "lost", "localised_amount", "chatter", "right_language",
    "other_language", "reads_like", "retrieved", "identified", "errors", "unrated",
)  # fmt: skip
_NUMBERS = (
    "characters", "script_share", "repetition", "length_ratio", "length_deviation", "wholeness", "leakage",
    "back_translation", "language_margin", "association", "error_score",
)  # fmt: skip


def _one_language(
    lines: pd.DataFrame, tag: str, sources: Sequence[str | None], source: str, most: int
) -> tuple[dict[str, Sequence[Any]], list[str | None], Any]:
    """The columns of one language's texts, the texts that are not too long, and their n-gram counts."""
    all_texts = _texts(lines["text"])
    texts = [None if text is None or len(text) > most else text for text in all_texts]
    worded = [text if ok else None for text, ok in zip(texts, text_checks.has_letters(texts), strict=True)]
    beside = [None] * len(sources) if tag == source else sources
    languages = identified(worded)
    taken = [name is not None and identify.same_language(source, name) for name in languages]
    lost, localised = pair_checks.lost(worded, beside, tag, source)
    columns: dict[str, Sequence[Any]] = {
        "characters": text_checks.characters(all_texts),
        "empty": text_checks.empty(texts),
        "control_characters": text_checks.control_characters(texts, tag),
        "mojibake": text_checks.mojibake(texts),
        "repetition": text_checks.repetition(worded, [None] * len(texts) if tag == source else sources),
        "script_share": script_share(worded, tag),
        "identified": languages,
        "right_language": right_language(languages, tag),
        "other_language": other_language(worded, tag),
        "length_ratio": pair_checks.length_ratio(worded, sources),
        "untranslated": pair_checks.untranslated(worded, beside, taken),
        "leakage": pair_checks.leakage(worded, beside),
        "lost": lost,
        "localised_amount": localised,
        "chatter": pair_checks.chatter(worded, beside),
        "back_translation": pair_checks.back_translation(_texts(lines["back_translation"]), beside),
    }
    return columns, texts, ngrams(worded)


def script_share(texts: Sequence[str | None], tag: str) -> list[float | None]:
    """Share of the letters that are in the script of the text's language, 0 to 1; null where that is not known.

    Fails on: languages that share a script (Spanish left in English scores 1), and names or code in another script,
    which weigh more in dense scripts: one Latin name of ten letters is half of a short Chinese request.
    """
    if not identify.script_known(tag):
        return [None] * len(texts)
    return [None if text is None else identify.script_share(text, tag) for text in texts]


def identified(texts: Sequence[str | None]) -> list[str | None]:
    """Language subtag that identification gives the text.

    Fails on: texts of a few words, mixed texts, and close relatives (Hindi and Nepali, Chinese and Wu).
    """
    return [None if text is None else identify.identify(text) for text in texts]


def right_language(languages: Sequence[str | None], tag: str) -> list[bool | None]:
    """Whether the column ``identified`` names the text's language; null where identification does not cover it.

    Fails on: what ``identified`` fails on, so it is a measure of a language in a set, never of one text.
    """
    if not identify.covered(tag):
        return [None] * len(languages)
    return [None if name is None else identify.same_language(tag, name) for name in languages]


def other_language(texts: Sequence[str | None], tag: str) -> list[str | None]:
    """Another language on which two identifiers surely agree, ``""`` if they do not; null where none covers the text's.

    Fails on: what is said at ``identify.surely_other``; it misses more than it finds, and is right where it finds.
    """
    if not identify.covered(tag):
        return [None] * len(texts)
    return [None if text is None else (identify.surely_other(text, tag) or "") for text in texts]


def below_limit(frame: pd.DataFrame, column: str, false_alarms: float) -> tuple[pd.Series, pd.Series]:
    """Whether a text's value is below the limit for faulty ones, and the share of faulty texts that this finds.

    The column holds shares of wrong examples that look worse. The limit is set per language from the set itself, such
    that false alarms stay rare; where it could not find half of the faulty texts so carefully, all are null: the check
    has no power there. Fails on: requests that hardly differ, loose translations in small sets, and sets in which every
    fifth text is faulty.
    """
    wrong = pd.Series(np.full(len(frame), None), frame.index, dtype=object)
    power = pd.Series(np.nan, frame.index, dtype=np.float32)
    for _, lines in frame.groupby(["set", "language"], sort=False, observed=True):
        values = lines[column].dropna()
        limit = evidence.limit(values.to_numpy(), false_alarms)
        if limit >= _HALF:
            wrong[values.index] = (values < limit).astype(object)
            power[lines.index] = limit
    return wrong, power


def mistranslated(frame: pd.DataFrame, wrong_scores: WrongScores) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Whether a text's error spans weigh as much as those of wrong pairs, that limit, and the share of these it finds.

    Null where texts were not rated, and for languages in which fewer than half of the wrong pairs would be found: the
    model behind the endpoint does not read them well enough. Fails on: what ``error_spans`` fails on.
    """
    wrong = pd.Series(np.full(len(frame), None), frame.index, dtype=object)
    limits, power = (pd.Series(np.nan, frame.index, dtype=np.float32) for _ in range(2))
    for (name, tag), lines in frame.groupby(["set", "language"], sort=False, observed=True):
        values, scores = lines["error_score"].dropna(), wrong_scores.get((str(name), str(tag)))
        if scores is None or not len(values):
            continue
        limit, found = error_spans.limit(values.to_numpy(), scores)
        if found >= _HALF:
            wrong[values.index] = (values >= limit).astype(object)
            limits[lines.index], power[lines.index] = limit, found
    return wrong, limits, power


def set_columns(
    frame: pd.DataFrame,
    marks: npt.NDArray[np.uint16],
    order: Sequence[str],
    false_alarms: float,
    wrong_scores: WrongScores | None = None,
) -> pd.DataFrame:
    """The frame of ``text_columns`` (of all sets, in order) with the columns that need all lines together."""
    frame = frame.assign(
        duplicate_of=duplicates.duplicate_of(frame),
        near_duplicate_of=duplicates.near_duplicate_of(frame, marks),
        leaked_from=duplicates.leaked_from(frame, order),
    )
    misplaced, association_power = below_limit(frame, "association", false_alarms)
    cut_off, wholeness_power = below_limit(frame, "wholeness", false_alarms)
    wrong, limit, rated_power = mistranslated(frame, wrong_scores or {})
    return frame.assign(
        misplaced=misplaced,
        association_power=association_power,
        cut_off=cut_off,
        wholeness_power=wholeness_power,
        mistranslated=wrong,
        error_limit=limit,
        error_power=rated_power,
    )


def add_quality(
    frame: pd.DataFrame,
    source: str,
    order: Sequence[str],
    maximum_characters: int = 20_000,
    false_alarms: float = 0.005,
    encoder: Encoder | None = None,
) -> pd.DataFrame:
    """The frame of ``long_frame``, texts included, with every quality column: all in memory."""
    most = dict.fromkeys(map(str, frame["language"].unique()), maximum_characters)
    parts = []
    for _, lines in frame.groupby("set", sort=False):
        parts.append(text_columns(lines, source, learn_from(lines, source), most, encoder))
    whole = pd.concat([columns for columns, _ in parts])
    whole = set_columns(whole, np.concatenate([marks for _, marks in parts]), order, false_alarms)
    return whole.assign(text=frame["text"], source_text=frame["source_text"])
