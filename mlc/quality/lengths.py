"""How long a text should be, by the other texts of its row.

A row's texts say the same, so each one's length tells something about all others'. Several languages tell more than the
source alone: what one of them words briefly, others do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mlc.quality.text_checks import has_letters

Floats = npt.NDArray[np.float64]

TO_DEVIATION = 1.4826  # makes the median absolute deviation of a normal distribution its standard deviation
_MOST_APART = 0.3  # in log length, of one text from its row's others; what is further off may be a fault of its own
# Translations of ordinary requests vary in length by a seventh and more (MultiJail). In a set that varies less (short
# requests from one template) a small spread would turn ordinary rows into outliers; half of a text is one in any set.
_SMALLEST_SPREAD = 0.14
_PRIOR = 5.0  # rows that say: all other languages count alike
_ROUNDS = 15
_TAIL = 4  # degrees of freedom of Student's t: some translations are far longer than the others


@dataclass(frozen=True)
class Lengths:
    """Per language, how its texts' log lengths go with those of the row's other languages."""

    tags: tuple[str, ...]
    source: int
    """Place of the source language."""
    medians: Floats
    """Of shape (languages,)."""
    coefficients: Mapping[str, Floats]
    """Language -> constant and a coefficient per other language."""
    spread: Mapping[str, float]
    """Language -> robust deviation of the texts from what is expected."""

    def expected(self, logs: Floats) -> Floats:
        """The log length that each text should have by its row's other texts; NaN without any.

        Args:
            logs: log lengths, of shape (rows, languages), NaN where a text is missing.
        """
        result = np.full(logs.shape, np.nan)
        for place, tag in enumerate(self.tags):
            if tag in self.coefficients:
                result[:, place] = _others(logs - self.medians, place) @ self.coefficients[tag] + self.medians[place]
        return result

    def spreads(self, logs: Floats) -> Floats:
        """The deviation from it that is usual, of the same shape: short requests vary more."""
        longer = np.exp((logs[:, self.source] - self.medians[self.source]) / 2)
        factor = np.where(np.isnan(longer), 1.0, np.clip(longer, 0.5, 2.0))
        return np.array([self.spread.get(tag, np.nan) for tag in self.tags]) / factor[:, None]


def log_lengths(texts: Mapping[str, Sequence[str | None]]) -> Floats:
    """Of shape (rows, languages); NaN for what is missing or holds no letter."""
    columns = []
    for column in texts.values():
        worded = has_letters(column)
        columns.append([np.log(len(t.strip())) if t and ok else np.nan for t, ok in zip(column, worded, strict=True)])
    return np.array(columns, dtype=np.float64).T


def _others(centred: Floats, place: int) -> Floats:
    """A constant, and the other languages' centred log lengths; those far from the row's median come nearer."""
    rest = np.delete(centred, place, axis=1)
    known = ~np.isnan(rest).all(axis=1)
    middle = np.full(len(rest), np.nan)
    middle[known] = np.nanmedian(rest[known], axis=1)
    near = np.where(np.isnan(rest), 0.0, np.clip(rest - middle[:, None], -_MOST_APART, _MOST_APART))
    return np.column_stack([np.ones(len(rest)), middle[:, None] + near])


def learn(texts: Mapping[str, Sequence[str | None]], source: str) -> Lengths:
    """Learns from a sample of rows: robust regression, so that cut or swapped texts among them count little."""
    logs = log_lengths(texts)
    tags = tuple(texts)
    medians = np.array([np.nanmedian(c) if (~np.isnan(c)).any() else np.nan for c in logs.T])
    centred = logs - medians
    coefficients, spread = {}, {}
    for place, tag in enumerate(tags):
        others = _others(centred, place)
        known = ~np.isnan(others).any(axis=1) & ~np.isnan(centred[:, place])
        if not known.any() or others.shape[1] < 2:
            continue
        x, y = others[known], centred[known, place]
        count = x.shape[1] - 1
        pull = _PRIOR * np.diag([0.0, *np.ones(count)]) + 1e-9 * np.eye(count + 1)
        alike = np.array([0.0, *np.full(count, 1 / count)])
        weight = np.ones(len(y))
        for _ in range(_ROUNDS):
            weighted = x * weight[:, None]
            found = np.linalg.solve(weighted.T @ x + pull, weighted.T @ y + pull @ alike)
            rest = y - x @ found
            scale = max(TO_DEVIATION * float(np.median(np.abs(rest))), 1e-6)
            # Huber's weights, and none at all for what is far off.
            apart = np.maximum(np.abs(rest), 1e-9)
            weight = np.where(apart > 4 * scale, 0.0, np.minimum(1.0, 1.5 * scale / apart))
        coefficients[tag] = found
        factor = np.clip(np.exp(centred[known, tags.index(source)] / 2), 0.5, 2.0)
        factor = np.where(np.isnan(factor), 1.0, factor)
        spread[tag] = max(TO_DEVIATION * float(np.median(np.abs(rest) * factor)), _SMALLEST_SPREAD)
    return Lengths(tags, tags.index(source), medians, coefficients, spread)


def fits(logs: Floats, expected: Floats, spreads: Floats) -> npt.NDArray[np.float32]:
    """How well each text (a line) goes with each row (a column) by its length: log likelihood, less the text's mean.

    Args:
        logs, expected, spreads: of one language, of shape (rows,).
    """
    apart = (logs[:, None] - expected) / spreads
    likelihood = -(_TAIL + 1) / 2 * np.log1p(np.square(apart) / _TAIL)
    likelihood -= np.log(spreads)
    known = ~np.isnan(likelihood)
    mean = np.where(known, likelihood, 0).sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)
    return np.where(known, likelihood - mean, 0).astype(np.float32)
