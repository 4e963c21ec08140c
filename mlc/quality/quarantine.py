"""Which variants and replies may not be used, why, and the rows that remain without them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from mlc.prompts.schema import PromptRow
from mlc.quality.decisions import Quarantined, Reason, ReasonFields, Releases, key_of
from mlc.quality.replies import reply_lines
from mlc.settings import Languages, Thresholds, Validate
from mlc.text import percent

Held = Mapping[tuple[str, str], Mapping[tuple[str, str], list[Reason]]]
"""Set and id of a row -> part and language of each of its replies in quarantine -> why."""


def _measured(line: Any, limits: Thresholds) -> list[Reason]:
    """The numbers of a line that are past a threshold of its language."""
    tag = line.language
    reasons = []

    def add(check: str, threshold: float, message: str) -> None:
        reasons.append(Reason(check, float(getattr(line, check)), threshold, message))

    if line.characters > limits.maximum_characters:
        add(
            "characters", limits.maximum_characters, f"is {line.characters:.0f} characters long, and checked no further"
        )
    if line.script_share < limits.minimum_script_share:
        message = f"{line.script_share:.2f} of the letters are in the script of {tag}"
        add("script_share", limits.minimum_script_share, message)
    if line.language_margin < limits.minimum_language_margin:
        message = f"reads like the set's {line.reads_like}, not like its {tag} ({line.language_margin:+.2f} per n-gram)"
        add("language_margin", limits.minimum_language_margin, message)
    if abs(line.length_deviation) > limits.length_ratio_deviations:
        message = (
            f"{line.length_ratio:.2f} times as long as the source text, "
            f"{line.length_deviation:+.1f} deviations from what is usual for {tag} beside the row's other texts"
        )
        add("length_deviation", limits.length_ratio_deviations, message)
    if line.leakage > limits.maximum_leakage:
        add("leakage", limits.maximum_leakage, f"holds a run of {percent(line.leakage)} of the source text's words")
    if line.repetition > limits.maximum_repetition:
        add("repetition", limits.maximum_repetition, f"{percent(line.repetition)} of it is there more than once")
    if line.back_translation < limits.minimum_back_translation:
        message = f"its back-translation is unlike the source text (chrF {line.back_translation:.0f})"
        add("back_translation", limits.minimum_back_translation, message)
    return reasons


def _own_reasons(line: Any, limits: Thresholds) -> list[Reason]:
    """What is wrong with one line of the frame."""
    reasons = _measured(line, limits)
    if line.empty is True:
        reasons.append(Reason("empty", None, None, "holds no letters"))
    if line.control_characters:
        reasons.append(Reason("control_characters", None, None, f"holds {line.control_characters}"))
    if line.mojibake is True:
        reasons.append(Reason("mojibake", None, None, "was decoded with the wrong encoding"))
    # Identification of one short text is a guess, so a wrong language is a reason only where two identifiers are sure.
    if line.other_language:
        message = f"two identifiers are sure that it is {line.other_language}"
        reasons.append(Reason("other_language", line.other_language, None, message))
    if line.untranslated is True:
        reasons.append(Reason("untranslated", None, None, "is the source text, or holds most of its words"))
    if line.chatter:
        reasons.append(Reason("chatter", line.chatter, None, f'says "{line.chatter}", which the source text does not'))
    if line.lost:
        reasons.append(Reason("lost", line.lost, None, f"has lost {line.lost}"))
    if line.localised_amount:
        there, here = line.localised_amount.split(" -> ", 1)
        message = f"has {here} for the source text's {there}: the amount is another one"
        reasons.append(Reason("localised_amount", line.localised_amount, None, message))
    if line.cut_off is True:
        message = f"{percent(1 - line.wholeness)} of texts cut off for comparison look more whole"
        reasons.append(Reason("cut_off", float(line.wholeness), None, message))
    if line.mistranslated is True:
        message = f"has errors as a wrong text has ({line.errors})"
        reasons.append(Reason("mistranslated", float(line.error_score), float(line.error_limit), message))
    if line.unrated:
        message = f"the endpoint gave no readable answer about its errors ({line.unrated})"
        reasons.append(Reason("unrated", line.unrated, None, message))
    if line.misplaced is True:
        message = f"{percent(1 - line.association)} of wrong pairings fit its row better"
        reasons.append(Reason("misplaced", float(line.association), None, message))
    for check in ("duplicate_of", "leaked_from"):
        if (other := getattr(line, check)) is not None:
            reasons.append(Reason(check, other, None, f"{other} has the same text"))
    return reasons


def reasons(frame: pd.DataFrame, validate: Validate, source: str, releases: Releases) -> pd.Series:
    """Per line of the frame the list of reasons for quarantine; empty for a clean, released or missing variant.

    A row goes whole where its source text is missing or bad, for its translations can then be compared with nothing and
    its replies answer nothing; and where any of its texts leaked, for all of them say the same.
    """
    tags = frame["language"].unique()
    limits = {str(tag): validate.of(str(tag)) for tag in tags}
    lines: list[Any] = list(frame.itertuples(index=False))
    own = [
        releases.left((line.set, line.id, line.language), line.text, line.source_text, line_reasons)
        if (line_reasons := _own_reasons(line, limits[line.language])) or line.text is not None
        else line_reasons
        for line in lines
    ]
    whole: dict[tuple[str, str], Reason] = {}
    for line, line_reasons in zip(lines, own, strict=True):
        key = (line.set, line.id)
        if line.language == source and (line_reasons or not line.present):
            word = "in quarantine" if line_reasons else "missing"
            whole[key] = Reason("row", source, None, f"its text in {source} is {word}")
        if line.leaked_from is not None:
            message = f"its text in {line.language} leaked from {line.leaked_from}"
            whole.setdefault(key, Reason("row", line.language, None, message))
    for line, line_reasons in zip(lines, own, strict=True):
        if not line_reasons and line.present and (line.set, line.id) in whole:
            line_reasons.append(whole[line.set, line.id])
    return pd.Series(own, frame.index, dtype=object)


def drop_by_rule(frame: pd.DataFrame, languages: Languages, minimum: int) -> pd.Series:
    """Whether a line goes because its training row is good in fewer than ``minimum`` served languages.

    Training on a row makes its languages agree, so it needs several. What judges or tunes stays: each of its variants
    is asked by itself. This is a rule of the settings, no lack of quality, so such lines are not ``quarantined``. The
    frame has the columns ``reasons`` and ``clean``; the lines that go get that reason, and are clean no longer.
    """
    served = frame["clean"] & frame["language"].isin(languages.served)
    row = [frame["set"], frame["id"]]
    good = served.groupby(row, sort=False, observed=True).transform("sum")
    dropped = frame["clean"] & (frame["set"] == "alignment") & (good < minimum)
    for reasons, count in zip(frame.loc[dropped, "reasons"], good[dropped], strict=True):
        message = f"its row is good in {count} of the served languages"
        reasons.append(Reason("minimum_languages", int(count), minimum, message))
    frame["clean"] &= ~dropped
    return dropped


def records(frame: pd.DataFrame) -> list[Quarantined]:
    """The lines of a frame with ``reasons`` for quarantine, as JSON objects."""
    bad = frame.loc[frame["reasons"].map(bool), ["set", "id", "language", "text", "source_text", "reasons"]]
    return [
        {
            "set": record["set"],
            "id": record["id"],
            "language": record["language"],
            "part": "prompt",
            "text": record["text"],
            "source_text": record["source_text"],
            "reasons": [_fields(reason) for reason in record["reasons"]],
        }
        for record in bad.to_dict("records")
    ]


def _fields(reason: Reason) -> ReasonFields:
    return {
        "check": reason.check,
        "value": reason.value,
        "threshold": reason.threshold,
        "message": reason.message,
    }


def _reply_reasons(line: Any) -> list[Reason]:
    """What is wrong with one reply by itself."""
    reasons = []
    if line.empty:
        reasons.append(Reason("empty", None, None, "says nothing"))
    if line.control_characters:
        reasons.append(Reason("control_characters", None, None, f"holds {line.control_characters}"))
    if line.mojibake:
        reasons.append(Reason("mojibake", None, None, "was decoded with the wrong encoding"))
    if line.other_language:
        message = f"two identifiers are sure that it is {line.other_language}"
        reasons.append(Reason("other_language", line.other_language, None, message))
    if line.identical:
        other = "rejected" if line.part == "chosen" else "chosen"
        reasons.append(Reason("identical", other, None, f"says the same as the {other} reply"))
    if line.cut_off is True:
        reasons.append(Reason("cut_off", None, None, "breaks off, and other replies of the set do not"))
    if line.duplicate_of is not None:
        message = f"{line.duplicate_of} has the same prompt and the same reply"
        reasons.append(Reason("duplicate_of", line.duplicate_of, None, message))
    return reasons


def held_replies(frame: pd.DataFrame, releases: Releases) -> Held:
    """The replies in quarantine and why, of the frame of ``mlc.quality.replies``.

    Half of a pair teaches nothing, so one reply takes the other along. The prompts of the row stay: they ask the same
    without it.
    """
    held: dict[tuple[str, str], dict[tuple[str, str], list[Reason]]] = {}
    lines: Iterable[Any] = frame.itertuples(index=False)
    for line in lines:
        reasons, key = _reply_reasons(line), key_of(line.set, line.id, line.language, line.part)
        if reasons or line.text is not None:
            reasons = releases.left(key, line.text, line.source_text, reasons)
        if reasons:
            held.setdefault((line.set, line.id), {})[line.part, line.language] = reasons
    for row in held.values():
        for part, other in (("chosen", "rejected"), ("rejected", "chosen")):
            for one, tag in list(row):
                if one == part and (other, tag) not in row:
                    message = f"the {part} reply of its pair is in quarantine"
                    row[other, tag] = [Reason("pair", part, None, message)]
    return held


def lines_with_replies(frame: pd.DataFrame, replies: pd.DataFrame, held: Held) -> tuple[pd.Series, pd.Series]:
    """Per line of the variants' frame, whether the row's pair and its reference in the language are in quarantine.

    Null where there is none; a pair is in the source language.
    """
    of: dict[str, dict[tuple[str, str, str], bool]] = {"pair": {}, "reference": {}}
    for name, row_id, part, tag in replies[["set", "id", "part", "language"]].itertuples(index=False):
        kind = "reference" if part == "reference" else "pair"
        of[kind][name, row_id, tag] = (part, tag) in held.get((name, row_id), {})
    keys = list(zip(frame["set"], frame["id"], frame["language"], strict=True))
    pairs, references = (pd.Series([of[kind].get(key) for key in keys], frame.index, dtype=object) for kind in of)
    return pairs, references


def reply_records(name: str, rows: Iterable[PromptRow], languages: Languages, held: Held) -> Iterator[Quarantined]:
    """The replies in quarantine of a set's rows, as JSON objects."""
    some = [row for row in rows if (name, row.id) in held]
    for _, (_, row_id, part, tag, text, question) in reply_lines(name, some, languages.all, languages.source):
        if reasons := held[name, row_id].get((part, tag)):
            yield {
                "set": name,
                "id": row_id,
                "language": tag,
                "part": part,
                "text": text,
                "source_text": question,
                "reasons": [_fields(reason) for reason in reasons],
            }


def clean_rows(
    frame: pd.DataFrame, sets: Mapping[str, Sequence[PromptRow]], held: Held | None = None
) -> dict[str, list[PromptRow]]:
    """The rows of each set with their clean variants alone, and what belongs to these; rows without any are left out.

    Replies in quarantine, those of ``held``, are left out as well, of a pair both.

    The frame has the column ``clean``; languages that it does not hold are dropped.
    """
    kept: dict[tuple[str, str], set[str]] = {}
    for name, row_id, tag in frame.loc[frame["clean"], ["set", "id", "language"]].itertuples(index=False):
        kept.setdefault((name, row_id), set()).add(tag)
    result: dict[str, list[PromptRow]] = {}
    for name, rows in sets.items():
        result[name] = [
            _without(_only(row, kept[name, row.id]), (held or {}).get((name, row.id), {}))
            for row in rows
            if (name, row.id) in kept
        ]
    return result


def _only(row: PromptRow, tags: set[str]) -> PromptRow:
    fields = ("prompts", "references", "provenance", "back_translations")
    return row.model_copy(
        update={field: {tag: v for tag, v in getattr(row, field).items() if tag in tags} for field in fields}
    )


def _without(row: PromptRow, held: Iterable[tuple[str, str]]) -> PromptRow:
    gone = {tag for part, tag in held if part == "reference"}
    changes: dict[str, Any] = {"references": {tag: reply for tag, reply in row.references.items() if tag not in gone}}
    if any(part != "reference" for part, _ in held):
        changes |= {"chosen": None, "rejected": None}
    return row.model_copy(update=changes)
