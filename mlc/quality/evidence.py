"""What a set's own wrong examples teach: how much each sign of a fault weighs, and from where on a text has the fault.

Wrong examples are plentiful although nobody labelled any: every text beside another row is a wrong pair, and every text
can be cut off. Signs are weighed such that these stand apart from the texts as they are, and a text's value is the
share of wrong examples that look even worse. It is near 1 for a good text, and uniform from 0 to 1 for a faulty one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

FEWEST = 100
"""Rows; in fewer, neither a language nor an association shows by n-grams."""
FEWEST_ENCODED = 20
"""Rows; with an encoder, which knows its languages without the set, fewer are enough to compare with."""
_WRONG_PAIRS = 50  # of each row; what they are compared with needs no more
_LIMITS = np.linspace(0.01, 0.99, 99)


@dataclass(frozen=True)
class Weighing:
    """How much each sign says: per sign a curve of log odds, and its weight."""

    curves: tuple[tuple[Floats, Floats], ...]
    """A sign's values, ascending, and the log odds at them."""
    weight: Floats
    """Of shape (signs,); 0 for a sign that says nothing."""

    def __call__(self, signs: Floats) -> Floats:
        """How good examples look, higher is better, of shape (examples,).

        Args:
            signs: of shape (examples, signs).
        """
        odds = [np.interp(signs[:, n], *curve) for n, curve in enumerate(self.curves)]
        return np.asarray(np.stack(odds, axis=1) @ self.weight, dtype=np.float32)


def weigh(good: Floats, wrong: Floats) -> Weighing | None:
    """Learns what tells good from wrong examples; None where no sign does.

    Each sign's log odds may only rise (isotonic regression) and end where the examples are too few to say more, so that
    one odd sign alone condemns nothing. Logistic regression then weighs the signs, without those that would count the
    wrong way.

    Args:
        good, wrong: of shape (examples, signs), each sign higher where it looks better. Some of the good may be wrong.
    """
    from sklearn.isotonic import IsotonicRegression
    from sklearn.linear_model import LogisticRegression

    labels = np.repeat([1.0, 0.0], [len(good), len(wrong)])
    balance = np.repeat([1 / len(good), 1 / len(wrong)], [len(good), len(wrong)])
    both = np.concatenate([good, wrong])
    least = 1 / (len(good) + 2)
    curves = []
    for sign in both.T:
        curve = IsotonicRegression(out_of_bounds="clip").fit(sign, labels, sample_weight=balance)
        share = curve.y_thresholds_
        odds = np.log((share + least) / (1 - share + least))
        curves.append((curve.X_thresholds_.astype(np.float32), odds.astype(np.float32)))
    weight = np.zeros(both.shape[1], np.float32)
    odds = np.stack([np.interp(both[:, n], *curve) for n, curve in enumerate(curves)], axis=1)
    used = np.flatnonzero(odds.std(axis=0) > 0)
    while len(used):
        weights = LogisticRegression(class_weight="balanced").fit(odds[:, used], labels).coef_[0]
        if (weights > 0).all():
            weight[used] = weights
            return Weighing(tuple(curves), weight)
        used = used[weights > 0]
    return None


def share_below(values: Any, wrong: Any) -> Floats:
    """The share of the wrong examples' values that are below each value."""
    return np.asarray(np.searchsorted(np.sort(wrong), values) / max(1, len(wrong)), dtype=np.float32)


def against_wrong_pairs(signs: Sequence[Floats], comparable: npt.NDArray[np.bool_], fewest: int) -> Floats:
    """For each text the share of wrong pairs that fit worse than it fits its own row, of shape (rows,).

    NaN for what is not comparable, and where there are fewer than ``fewest`` rows to compare or no sign says anything.

    Args:
        signs: of shape (texts, rows): how well a text fits a row, by each sign; its own row is on the diagonal.
        comparable: whether a row has what is compared, of shape (rows,).
    """
    result = np.full(len(comparable), np.nan, np.float32)
    n = int(comparable.sum())
    if n < fewest or not signs:
        return result
    lines = np.arange(n)
    offsets = np.unique(np.linspace(1, n - 1, min(_WRONG_PAIRS, n - 1)).astype(int))
    within = np.ix_(comparable, comparable)
    good, wrong = [], []
    for sign in signs:
        used = sign[within]
        good.append(np.diag(used))
        wrong.append(np.concatenate([used[lines, (lines + offset) % n] for offset in offsets]))
    own, others = np.stack(good, axis=1), np.stack(wrong, axis=1)
    if weighing := weigh(own, others):
        result[comparable] = share_below(weighing(own), weighing(others))
    return result


def standardised(scores: Floats, comparable: npt.NDArray[np.bool_]) -> Floats:
    """Each pair's score against all others of its text and of its row: the sum of both z-scores, 0 if incomparable."""
    fit = np.zeros_like(scores, dtype=np.float32)
    n = int(comparable.sum())
    if n < 3:
        return fit
    used = scores[np.ix_(comparable, comparable)].astype(np.float64)
    own = np.diag(used)
    total = np.zeros((n, n))
    for axis in (0, 1):
        mean = (used.sum(axis=axis) - own) / (n - 1)
        spread = np.sqrt(np.maximum((np.square(used).sum(axis=axis) - own**2) / (n - 1) - mean**2, 1e-12))
        total += (used - np.expand_dims(mean, axis)) / np.expand_dims(spread, axis)
    fit[np.ix_(comparable, comparable)] = total
    return fit


def limit(values: Floats, false_alarms: float) -> float:
    """Below which value a text is taken for faulty; also the share of faulty texts that this finds.

    The values of faulty texts are uniform, so twice those below a half estimates how many there are; without them, at
    most a share ``false_alarms`` of the texts may be below the limit. 0 where nothing can be found so carefully.

    Args:
        values: of one language in one set, without NaN.
        false_alarms: allowed share among good texts.
    """
    if not len(values):
        return 0.0
    faulty = min(0.9, 2 * float(np.mean(values < 0.5)))
    best = 0.0
    for candidate in _LIMITS:
        alarms = (float(np.mean(values < candidate)) - faulty * candidate) / (1 - faulty)
        if alarms <= false_alarms:
            best = float(candidate)
    return best
