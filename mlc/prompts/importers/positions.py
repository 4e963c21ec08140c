"""Requests of files that share no key, matched by their position: believed only where the files bear it out.

Three things have to agree with the file in the source language: the number of records, the category of each, and the
lengths of the texts. A translation of a long request is long: between files of PolyRefuse that belong together, the
rank correlation of lengths is .64 to .96, and between those that do not (its harmless Chinese files of train and val,
whose counts and categories agree) it is below .1. Not found: a few records that changed places.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mlc.errors import MlcError
from mlc.prompts.importers.drafts import UNSPECIFIED, Draft, LeftOut
from mlc.prompts.importers.records import Record
from mlc.prompts.schema import Intent
from mlc.text import quoted

ALIGNED = 0.3  # the lower bound of the lengths' correlation; see above


def by_position(
    files: Mapping[str, tuple[Path, list[Record]]], source: str, field: str, intent: Intent
) -> Iterator[Draft | LeftOut]:
    """Drafts of what stands at the same position as in the file of language ``source``.

    A file whose lengths do not go with it holds other requests: it is left out, record by record.

    Raises:
        MlcError: a file has another number of records, or other categories at the same positions.
    """
    path, records = files[source]
    matched, left_out = {source: records}, list[LeftOut]()
    for language, (other_path, others) in files.items():
        _check(path, records, other_path, others)
        bound = lengths_agree(*([record.text(field) or "" for record in side] for side in (records, others)))
        if language != source and bound < ALIGNED:
            reason = (
                f"{other_path.name} holds other requests than {path.name} at the same positions, or too few to tell "
                f"(the rank correlation of their lengths is surely above {bound:.2f}; {ALIGNED} is needed)"
            )
            left_out += (LeftOut(record.where, reason) for record in others)
        else:
            matched[language] = others
    for number, record in enumerate(records):
        group = {language: others[number] for language, others in matched.items()}
        texts = {language: text for language, member in group.items() if (text := member.text(field))}
        yield Draft(
            record.where,
            {language: member.fields for language, member in group.items()},
            None,
            intent,
            record.text("category") or UNSPECIFIED,
            texts,
            places={language: member.place(field) for language, member in group.items()},
        )
    yield from left_out


def _check(path: Path, records: Sequence[Record], other_path: Path, others: Sequence[Record]) -> None:
    """Refuses files whose counts or categories differ, with by how much."""
    if len(records) != len(others):
        raise MlcError(
            f"{other_path} has {len(others)} records, {path.name} {len(records)}: they share no key, so they are "
            "matched by position, which takes as many in both. Get whole files, or take one of them out of the folder"
        )
    pairs = zip(records, others, strict=True)
    differ = [n for n, (a, b) in enumerate(pairs) if a.text("category") != b.text("category")]
    if differ:
        ours, theirs = (side[differ[0]].text("category") for side in (records, others))
        raise MlcError(
            f"{other_path} has other categories than {path.name} at {len(differ)} of {len(records)} positions (the "
            f"first is record {differ[0] + 1}, {quoted(theirs or '')} where {quoted(ours or '')} stands): they share "
            "no key, so they are matched by position, which takes the same order. Take one of them out of the folder"
        )


def lengths_agree(texts: Sequence[str], others: Sequence[str]) -> float:
    """The lower end of the 95% interval of the rank correlation of two lists' lengths; -1 where it cannot be had.

    By Fisher's transformation, with the variance of Fieller, Hartley and Pearson (1957) for ranks, 1.06 / (n - 3).
    """
    from scipy.stats import spearmanr

    lengths = [len(text) for text in texts], [len(text) for text in others]
    if len(texts) < 5 or any(len(set(side)) == 1 for side in lengths):
        return -1.0
    correlation = max(-0.999999, min(0.999999, float(spearmanr(*lengths).statistic)))
    return math.tanh(math.atanh(correlation) - 1.96 * math.sqrt(1.06 / (len(texts) - 3)))
