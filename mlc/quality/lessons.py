"""What a sample of a set teaches, and what it then says about texts beside their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlc.quality import encoder, endings, evidence, lengths, ngram_model
from mlc.quality.encoder import Encoder
from mlc.quality.endings import Cuts
from mlc.quality.lengths import Lengths
from mlc.quality.ngram_model import Learned


@dataclass(frozen=True)
class Lessons:
    """What a sample of a set teaches."""

    lengths: Lengths
    cuts: Mapping[str, Cuts]
    """Language -> how its texts look when they are cut off; only languages with enough texts."""
    wording: Learned | None


def learn(ids: Sequence[str], texts: Mapping[str, Sequence[str | None]], source: str) -> Lessons:
    """Learns from a sample of rows.

    Args:
        ids: of the rows.
        texts: language -> the rows' texts in it, null where missing.
    """
    known = lengths.learn(texts, source)
    logs = lengths.log_lengths(texts)
    spreads = known.spreads(logs)
    surplus = (logs - known.expected(logs)) / spreads
    cuts = {}
    for place, (tag, column) in enumerate(texts.items()):
        if tag == source or source not in texts:
            continue
        cut = endings.learn(ids, column, texts[source], surplus[:, place], spreads[:, place])
        if cut is not None:
            cuts[tag] = cut
    return Lessons(known, cuts, ngram_model.learn(ids, texts))


def compared(
    lessons: Lessons,
    ids: Sequence[str],
    texts: Mapping[str, Sequence[str | None]],
    sources: Sequence[str | None],
    source: str,
    counts: Mapping[str, Any],
    model: Encoder | None,
) -> dict[str, dict[str, Any]]:
    """Language other than the source -> the columns that compare its texts with their rows.

    ``length_deviation``: how much longer or shorter than by the row's other texts is usual, in robust deviations; fails
    on rows most of whose texts are cut off alike. ``association``: the share of wrong pairs of a text and a row that
    fit worse, by the n-grams of both, their lengths, and the encoder's opinion where there is one; near 1 for a
    translation, uniform from 0 to 1 for a text that belongs elsewhere.
    """
    logs = lengths.log_lengths(texts)
    expected, spreads = lessons.lengths.expected(logs), lessons.lengths.spreads(logs)
    wording = ngram_model.fits(lessons.wording, ids, counts) if lessons.wording else {}
    vectors = model.encode(texts) if model else {}
    result: dict[str, dict[str, Any]] = {}
    for place, tag in enumerate(lessons.lengths.tags):
        if tag == source or tag not in texts:
            continue
        deviation = (logs[:, place] - expected[:, place]) / spreads[:, place]
        result[tag] = {"length_deviation": deviation.astype(np.float32)}
        if tag in lessons.cuts:
            result[tag]["wholeness"] = lessons.cuts[tag].wholeness(ids, texts[tag], sources, deviation)
        comparable = ~np.isnan(deviation)
        signs = [lengths.fits(logs[:, place], expected[:, place], spreads[:, place])]
        fewest = evidence.FEWEST
        if tag in wording:
            signs.append(evidence.standardised(wording[tag], comparable))
        if vectors:
            fewest = evidence.FEWEST_ENCODED
            signs.append(evidence.standardised(encoder.fits(vectors, tag), comparable))
            result[tag]["retrieved"] = encoder.retrieved(vectors, tag, source)
        if len(signs) > 1:  # lengths alone tell texts apart too rarely
            result[tag]["association"] = evidence.against_wrong_pairs(signs, comparable, fewest)
    return result
