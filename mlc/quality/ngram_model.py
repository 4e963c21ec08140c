"""What a set itself teaches about its languages: how each reads, and which wording goes with which request.

Both are learned from a sample of the set's rows, on counts of character n-grams, and every row is judged by the others:
what a row itself contributed is taken out exactly (leave-one-out), so that a wrong row does not vouch for itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from sklearn.feature_extraction.text import HashingVectorizer

from mlc.quality.evidence import FEWEST

Floats = npt.NDArray[np.float32]

SAMPLE = 1000
"""Rows of a set that it is learned from. More cost time in every row's check and found no more."""
_LONGEST = 2000  # characters of a text that are looked at
_FEATURES = 2**18
_SMOOTHING = 0.05
_RIDGE = 0.3

_vectorizer = HashingVectorizer(
    analyzer="char_wb", ngram_range=(1, 4), n_features=_FEATURES, alternate_sign=False, norm=None, dtype=np.float32
)


def ngrams(texts: Sequence[str | None]) -> Any:
    """Counts of hashed character n-grams: a sparse matrix of shape (texts, 2^18), empty rows for nulls."""
    return _vectorizer.transform([(text or "")[:_LONGEST] for text in texts])


@dataclass(frozen=True)
class Learned:
    """A set's sample: per language, n-gram counts, and the sample's rows as an index to compare others with."""

    row_of: Mapping[str, int]
    """id -> its row in the index, for rows of the sample."""
    counts: Mapping[str, Floats]
    """Language -> n-gram counts of all its texts in the sample, of shape (features,)."""
    rarity: Mapping[str, Floats]
    """Language -> inverse document frequency, of shape (features,); 0 for n-grams of a single text."""
    index: Mapping[str, Any]
    """Language -> weighted n-grams of the sample, sparse, of shape (rows, features); empty rows for missing texts."""
    inverse: Mapping[str, Floats]
    """Language -> inverse of its ridged similarity matrix, of shape (rows, rows)."""

    def weighted(self, tag: str, counts: Any) -> Any:
        return _weighted(counts, self.rarity[tag])


def learn(ids: Sequence[str], texts: Mapping[str, Sequence[str | None]]) -> Learned | None:
    """Learns from a sample of rows; None from fewer than ``FEWEST``.

    Args:
        ids: of the rows.
        texts: language -> the rows' texts in it, null where missing.
    """
    if len(ids) < FEWEST:
        return None
    totals, rarity, index, inverse = {}, {}, {}, {}
    for tag, column in texts.items():
        counts = ngrams(column)
        totals[tag] = np.asarray(counts.sum(axis=0), dtype=np.float32).ravel()
        present = max(1, sum(text is not None for text in column))
        occurs = counts.getnnz(axis=0)
        rarity[tag] = np.where(occurs > 1, np.log((present + 1) / (occurs + 1)), 0.0).astype(np.float32)
        index[tag] = _weighted(counts, rarity[tag])
        similarity = (index[tag] @ index[tag].T).toarray()
        inverse[tag] = np.linalg.inv(similarity + _RIDGE * np.eye(len(ids), dtype=np.float32))
    return Learned({row: n for n, row in enumerate(ids)}, totals, rarity, index, inverse)


def _weighted(counts: Any, rarity: Floats) -> Any:
    """Presence times rarity, each row of length 1."""
    rows = counts.copy()
    rows.data = rarity[rows.indices]
    length = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    return (sp.diags_array(1 / np.maximum(length, 1e-9).astype(np.float32)) @ rows).tocsr()


def language_margins(
    learned: Learned, ids: Sequence[str], counts: Mapping[str, Any]
) -> dict[str, tuple[Floats, list[str]]]:
    """Per language: by how much each text reads more like its own language than like the best other, and that other.

    The margin is the difference of naive Bayes' log likelihoods per n-gram, positive where the own language wins; NaN
    for texts without n-grams and in a set of one language.
    """
    tags = [tag for tag in counts if learned.counts[tag].any()]
    frequencies = {tag: _log(learned.counts[tag]) - _log_total(learned.counts[tag].sum()) for tag in tags}
    position = np.array([learned.row_of.get(row, -1) for row in ids])
    result = {}
    for tag, matrix in counts.items():
        length = np.asarray(matrix.sum(axis=1), dtype=np.float32).ravel()
        others = [other for other in tags if other != tag]
        if tag not in tags or not others:
            result[tag] = (np.full(len(ids), np.nan, np.float32), [""] * len(ids))
            continue
        rival = np.stack([matrix @ frequencies[other] for other in others])
        # Its own n-grams are taken out of what its language was learned from.
        taken = np.repeat(position >= 0, np.diff(matrix.indptr)) * matrix.data
        line = np.repeat(np.arange(len(ids)), np.diff(matrix.indptr))
        known = np.maximum(learned.counts[tag][matrix.indices] - taken, 0)
        own = np.bincount(line, matrix.data * _log(known), minlength=len(ids)).astype(np.float64)  # of nothing: ints
        own -= length * _log_total(learned.counts[tag].sum() - np.where(position >= 0, length, 0))
        with np.errstate(invalid="ignore"):
            margin = ((own - rival.max(axis=0)) / np.where(length > 0, length, np.nan)).astype(np.float32)
        result[tag] = (margin, [others[best] for best in rival.argmax(axis=0)])
    return result


def _log(counts: Any) -> Any:
    return np.log(counts + _SMOOTHING)


def _log_total(total: Any) -> Any:
    return np.log(total + _SMOOTHING * _FEATURES)


def fits(learned: Learned, ids: Sequence[str], counts: Mapping[str, Any]) -> dict[str, Floats]:
    """Per language: how well each text (a line) goes with each row's other languages (a column).

    Kernel ridge regression, from the set alone: rows whose texts in this language are worded like this one should be
    the rows that are also alike in the other languages.
    """
    position = np.array([learned.row_of.get(row, -1) for row in ids])
    inside = np.flatnonzero(position >= 0)
    alike = {
        tag: (learned.weighted(tag, matrix) @ learned.index[tag].T).toarray().astype(np.float32)
        for tag, matrix in counts.items()
    }
    unit = {tag: _unit(matrix) for tag, matrix in alike.items()}
    everything = sum(unit.values())
    scores = {}
    for tag, matrix in alike.items():
        inverse = learned.inverse[tag]
        weights = matrix @ inverse
        # A row of the index, predicted from the other rows of the index alone.
        own = position[inside]
        weights[inside] = -inverse[own] / np.diag(inverse)[own, None]
        weights[inside, own] = 0
        scores[tag] = _unit(weights) @ _unit(everything - unit[tag]).T
    return scores


def _unit(rows: Any) -> Floats:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9), dtype=np.float32)
