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
_BEYOND_HALF = np.arange(0.55, 0.96, 0.05)
_ERRORS = 2  # standard errors of the number of faulty texts, within which it is taken for the same
_TIES = 0.1  # of the straight line beside curves, which have level parts


@dataclass(frozen=True)
class Weighing:
    """How much each sign says."""

    linear: Floats
    """Of shape (signs,); 0 for a sign that says nothing."""
    curves: tuple[tuple[Floats, Floats], ...] = ()
    """Where signs are not simply added: a sign's values, ascending, and the log odds at them, times its weight."""

    def __call__(self, signs: Floats) -> Floats:
        """How good examples look, higher is better, of shape (examples,).

        Args:
            signs: of shape (examples, signs).
        """
        score = signs @ self.linear
        for n, curve in enumerate(self.curves):
            score = score + np.interp(signs[:, n], *curve)
        return np.asarray(score, dtype=np.float32)


def weigh(good: Floats, wrong: Floats, curved: bool = False) -> Weighing | None:
    """Learns what tells good from wrong examples, by logistic regression; None where no sign does.

    Signs that would count the wrong way are left out.

    Args:
        good, wrong: of shape (examples, signs), each sign higher where it looks better. Some of the good may be wrong.
        curved: whether a sign's log odds may bend and end (isotonic regression), so that one odd sign alone condemns
            nothing; for examples of which some are good and look odd in one way.
    """
    from sklearn.isotonic import IsotonicRegression

    labels = np.repeat([1.0, 0.0], [len(good), len(wrong)])
    both = np.concatenate([good, wrong])
    linear = _logistic(both, labels)
    if linear is None or not curved:
        return None if linear is None else Weighing(linear)
    balance = np.repeat([1 / len(good), 1 / len(wrong)], [len(good), len(wrong)])
    least = 1 / (len(good) + 2)
    curves, odds = [], []
    for sign in both.T:
        curve = IsotonicRegression(out_of_bounds="clip").fit(sign, labels, sample_weight=balance)
        share = curve.y_thresholds_
        curves.append((curve.X_thresholds_, np.log((share + least) / (1 - share + least))))
        odds.append(np.interp(sign, *curves[-1]))
    weights = _logistic(np.stack(odds, axis=1), labels)
    if weights is None:
        return Weighing(linear)
    bent = tuple((x.astype(np.float32), (y * w).astype(np.float32)) for (x, y), w in zip(curves, weights, strict=True))
    return Weighing(_TIES * linear, bent)


def _logistic(signs: Floats, labels: Any) -> Floats | None:
    from sklearn.linear_model import LogisticRegression

    result = np.zeros(signs.shape[1], np.float32)
    spread = np.asarray(signs.std(axis=0))
    used = np.flatnonzero(spread > 0)
    while len(used):
        scaled = signs[:, used] / spread[used]
        weights = LogisticRegression(class_weight="balanced", max_iter=300).fit(scaled, labels).coef_[0]
        if (weights > 0).all():
            result[used] = weights / spread[used]
            return result
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

    The values of faulty texts are uniform, so those below a half estimate how many there are, and so do those below
    more than a half as long as no good ones come in. Without the faulty ones, at most a share ``false_alarms`` of the
    texts may be below the limit, as far as their number is known. 0 where nothing can be found so carefully.

    Args:
        values: of one language in one set, without NaN.
        false_alarms: allowed share among good texts.
    """
    if not (n := len(values)):
        return 0.0

    def below(value: float) -> float:
        return float(np.mean(values < value))

    half = faulty = 2 * below(0.5)
    upto = 0.5
    for value in _BEYOND_HALF:
        if below(value) / value > half + _ERRORS * np.sqrt(half / n):
            break
        faulty, upto = max(half, below(value) / value), float(value)
    faulty = min(0.9, faulty)
    best = 0.0
    for candidate in _LIMITS:
        unsure = np.sqrt(faulty * max(0.0, candidate - upto) / n)
        if (below(candidate) - faulty * candidate - unsure) / (1 - faulty) <= false_alarms:
            best = float(candidate)
    return best
