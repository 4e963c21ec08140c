"""Which variants may not be used, why, and the rows that remain without them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from mlc.prompts.schema import PromptRow
from mlc.quality.releases import Releases
from mlc.settings import Languages, Validate


class Reason(NamedTuple):
    """Why a variant is in quarantine: the check that it failed, what was found, and what is allowed."""

    check: str
    """The quality column that shows it; ``row`` where the variant itself passed and its row did not."""
    value: float | str | None
    """What the check found: a number, or the other row; None where the message says it all."""
    threshold: float | None
    """The setting that the value broke; None for a check without one."""
    message: str


def _own_reasons(line: Any, validate: Validate) -> list[Reason]:
    """What is wrong with one line of the frame."""
    found = []
    if line.empty is True:
        found.append(Reason("empty", None, None, "holds no letters"))
    if line.script_share < (least := validate.minimum_script_share):
        share = float(line.script_share)
        found.append(
            Reason("script_share", share, least, f"{share:.2f} of the letters are in the script of {line.language}")
        )
    if abs(line.length_deviation) > (most := validate.length_ratio_deviations):
        message = (
            f"{line.length_ratio:.2f} times as long as the source text, "
            f"{line.length_deviation:+.1f} deviations from what is usual for {line.language}"
        )
        found.append(Reason("length_deviation", float(line.length_deviation), most, message))
    # Identification of one short text is a guess, so a wrong language is no reason by itself; see columns.untranslated.
    if line.untranslated is True:
        found.append(Reason("untranslated", None, None, "is the source text, or holds most of its words"))
    for check in ("duplicate_of", "leaked_from"):
        if (other := getattr(line, check)) is not None:
            found.append(Reason(check, other, None, f"{other} has the same text"))
    return found


def reasons(frame: pd.DataFrame, validate: Validate, source: str, releases: Releases) -> pd.Series:
    """Per line of the frame the list of reasons for quarantine; empty for a clean, released or missing variant.

    A row goes whole where its source text is missing or bad, for its translations can then be compared with nothing and
    its replies answer nothing; and where any of its texts leaked, for all of them say the same.
    """
    lines: list[Any] = list(frame.itertuples(index=False))
    own = [
        releases.left((line.set, line.id, line.language), line.text, line.source_text, _own_reasons(line, validate))
        for line in lines
    ]
    whole: dict[tuple[str, str], Reason] = {}
    for line, found in zip(lines, own, strict=True):
        key = (line.set, line.id)
        if line.language == source and (found or line.text is None):
            word = "in quarantine" if found else "missing"
            whole[key] = Reason("row", source, None, f"its text in {source} is {word}")
        if line.leaked_from is not None:
            message = f"its text in {line.language} leaked from {line.leaked_from}"
            whole.setdefault(key, Reason("row", line.language, None, message))
    for line, found in zip(lines, own, strict=True):
        if not found and line.text is not None and (line.set, line.id) in whole:
            found.append(whole[line.set, line.id])
    return pd.Series(own, frame.index, dtype=object)


def too_few(name: str, good: Collection[str], languages: Languages, minimum: int) -> Reason | None:
    """Why a row of the set ``name`` that is good in the languages ``good`` is dropped by rule; None where it stays.

    Training on a row makes its languages agree, so it needs several. What judges or tunes needs none: each of its
    variants is asked by itself.
    """
    there = len(set(good).intersection(languages.served))
    if name != "alignment" or there >= minimum:
        return None
    message = f"its row is good in {there} of the served languages"
    return Reason("minimum_languages", there, minimum, message)


def drop_by_rule(frame: pd.DataFrame, languages: Languages, minimum: int) -> pd.Series:
    """Whether a line goes because its row has ``too_few`` languages: a rule of the settings, no lack of quality.

    The frame has the columns ``reasons`` and ``clean``; such lines get that reason, and are clean no longer.
    """
    dropped = pd.Series(False, frame.index)
    clean = frame[frame["clean"]]
    for (name, _), lines in clean.groupby(["set", "id"], sort=False):
        reason = too_few(str(name), list(lines["language"]), languages, minimum)
        if reason is not None:
            dropped[lines.index] = True
            for found in lines["reasons"]:
                found.append(reason)
    frame["clean"] &= ~dropped
    return dropped


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The lines of a frame with ``reasons`` for quarantine, as JSON objects."""
    bad = frame.loc[frame["reasons"].map(bool), ["set", "id", "language", "text", "source_text", "reasons"]]
    return [
        {str(name): value for name, value in record.items()} | {"reasons": [r._asdict() for r in record["reasons"]]}
        for record in bad.to_dict("records")
    ]


def clean_rows(frame: pd.DataFrame, sets: Mapping[str, Sequence[PromptRow]]) -> dict[str, list[PromptRow]]:
    """The rows of each set with their clean variants alone, and what belongs to these; rows without any are left out.

    The frame has the column ``clean``; languages that it does not hold are dropped.
    """
    kept: dict[tuple[str, str], set[str]] = {}
    for name, row_id, tag in frame.loc[frame["clean"], ["set", "id", "language"]].itertuples(index=False):
        kept.setdefault((name, row_id), set()).add(tag)
    result: dict[str, list[PromptRow]] = {}
    for name, rows in sets.items():
        result[name] = [_only(row, kept[name, row.id]) for row in rows if (name, row.id) in kept]
    return result


def _only(row: PromptRow, tags: set[str]) -> PromptRow:
    fields = ("prompts", "references", "provenance", "back_translations")
    return row.model_copy(
        update={field: {tag: v for tag, v in getattr(row, field).items() if tag in tags} for field in fields}
    )
