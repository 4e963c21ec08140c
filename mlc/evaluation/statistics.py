"""Intervals and tests whose unit is the prompt: the same prompt in ten languages is one draw.

``alpha`` is always the level of one side: a two-sided 95 % interval has 0.025 on each. How well each interval covers
is measured by ``benchmarks/gate.py``, and the table is in docs/gates.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

Array = npt.NDArray[np.float64]
Matrix = Array  # prompts x languages, NaN where a prompt has no variant
RESAMPLES = 10_000  # a level shared out among thirty languages still leaves dozens of draws beyond the bound
_CHUNK = 1_000_000  # weights held at once


class Estimate(TypedDict):
    """An estimate with its two-sided interval; ``n`` counts prompts."""

    n: int
    value: float
    low: float
    high: float


class Bounded(NamedTuple):
    """A value with its one-sided bounds."""

    value: float
    low: float
    high: float

    def estimate(self, n: int) -> Estimate:
        return Estimate(n=n, value=self.value, low=self.low, high=self.high)


def exact_bounds(hits: npt.ArrayLike, n: npt.ArrayLike, alpha: float) -> tuple[Array, Array]:
    """Exact (Clopper-Pearson) bounds of proportions, each one-sided at level ``alpha``. ``hits`` may be fractional."""
    low, high = proportion_confint(np.asarray(hits, float), np.asarray(n, float), alpha=2 * alpha, method="beta")
    return np.asarray(low), np.asarray(high)


def lower_bound(hits: float, n: float, alpha: float) -> float:
    return float(exact_bounds(hits, n, alpha)[0])


def upper_bound(hits: float, n: float, alpha: float) -> float:
    return float(exact_bounds(hits, n, alpha)[1])


def proportions(hits: npt.ArrayLike, n: Sequence[int], confidence: float = 0.95) -> list[Estimate]:
    """Proportions with their exact two-sided intervals. Raises ``ValueError`` when an ``n`` is zero."""
    if not all(n):
        raise ValueError("a proportion of n = 0 prompts")
    counts = np.asarray(hits, float)
    low, high = exact_bounds(counts, n, (1 - confidence) / 2)
    values = counts / np.asarray(n)
    return [Bounded(*map(float, bounds)).estimate(k) for k, *bounds in zip(n, values, low, high, strict=True)]


def proportion(hits: int, n: int, confidence: float = 0.95) -> Estimate:
    return proportions([hits], [n], confidence)[0]


def resampled(columns: Array, resamples: int | None = None) -> Array:
    """Sums of the columns of a prompts x columns matrix over bootstrap draws of its rows: draws x columns.

    All columns share their draws, and the draws depend on the number of rows alone: the same input gives the same
    output, and two matrices of equally many rows are resampled alike.
    """
    rng = np.random.default_rng(0)
    n, draws = len(columns), RESAMPLES if resamples is None else resamples
    sums = []
    for start in range(0, draws, step := max(1, _CHUNK // n)):
        rows = min(step, draws - start)
        drawn = rng.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(float)
        sums.append(weights @ columns)
    return np.concatenate(sums)


def clustered_mean(outcomes: Matrix, alpha: float) -> Bounded:
    """The mean over languages of their rates (or of any values from 0 to 1), with bounds that know of the clusters.

    Exact bounds at the effective number of prompts (Korn and Graubard 1998): n divided by the design effect, which
    falls from 1 when a prompt's languages agree to 1 / languages when they are independent. The design effect is
    measured with one more prompt whose outcome is the rarer one in every language, so that the absence of failures is
    no proof of independence. The bootstrap is no alternative here: without a failure it has no width at all.
    """
    seen = np.isfinite(outcomes)
    filled = np.where(seen, outcomes, 0.0)
    value = float(np.mean(filled.sum(axis=0) / seen.sum(axis=0)))
    rare = float(value < 0.5)
    filled, seen = np.vstack([filled, np.full(filled.shape[1], rare)]), np.vstack([seen, np.ones(seen.shape[1], bool)])
    counts = seen.sum(axis=0)
    rates = filled.sum(axis=0) / counts
    rows, languages = filled.shape
    influence = (np.where(seen, filled - rates, 0.0) / counts).sum(axis=1) * rows / languages
    variance, mean = float(np.mean(influence**2)), float(rates.mean())
    effective = (rows - 1) / min(1.0, variance / (mean * (1 - mean)))
    low, high = exact_bounds(value * effective, effective, alpha)
    return Bounded(value, float(low), float(high))


def worst_language(outcomes: Matrix, alpha: float, higher_is_better: bool) -> Bounded:
    """The worst language's rate. The side that promises is safe at each language's own bound; the other is shared out.

    That the worst is at least x says that all are, so the lowest of the lower bounds, each at ``alpha``, does; that it
    is at most x is said of one language, picked from all of them.
    """
    seen = np.isfinite(outcomes)
    hits, n = np.where(seen, outcomes, 0.0).sum(axis=0), seen.sum(axis=0)
    if not higher_is_better:
        mirrored = worst_language(1 - outcomes, alpha, True)
        return Bounded(1 - mirrored.value, 1 - mirrored.high, 1 - mirrored.low)
    low = exact_bounds(hits, n, alpha)[0].min()
    high = exact_bounds(hits, n, alpha / len(n))[1].min()
    return Bounded(float((hits / n).min()), float(low), float(high))


def spread(outcomes: Matrix, alpha: float, source: int) -> dict[str, Bounded]:
    """``gap``: the largest distance of a language's rate from the source language's; ``variance`` between languages.

    Variance is the population variance of the percentages, divided by 100 (the paper's). Both are bootstrapped over
    prompts. As noise alone makes either positive, a gap's lower bound is zero unless a language differs at a level
    shared out among the languages, and the variance's is the lower of the percentile and the basic bound; and as
    languages that all agree resample to zero, neither upper bound is below what a failure unseen in n prompts in one
    language leaves possible.
    """
    seen = np.isfinite(outcomes)
    languages = outcomes.shape[1]
    sums = resampled(np.hstack([np.where(seen, outcomes, 0.0), seen]))
    with np.errstate(invalid="ignore"):  # a language that is missing from a draw is NaN there
        drawn = sums[:, :languages] / sums[:, languages:]
    rates = np.nanmean(outcomes, axis=0)
    unseen = 1 - alpha ** (1 / int(seen.sum(axis=0).min()))

    def variance(values: Array) -> Array:
        return np.asarray(np.var(100 * values, axis=-1) / 100)

    distances = drawn - drawn[:, [source]]
    shared = alpha / max(1, languages - 1)
    below, above = np.nanquantile(distances, [shared, 1 - shared], axis=0)
    apart = np.maximum(0, np.maximum(below, -above))
    gap = np.abs(rates - rates[source]).max()
    high = np.nanquantile(np.abs(distances).max(axis=1), 1 - alpha)
    spreads = variance(drawn)
    value = float(variance(rates))
    q_low, q_high = np.nanquantile(spreads, [alpha, 1 - alpha])
    possible = 100 * unseen**2 * (languages - 1) / languages**2
    return {
        "gap": Bounded(float(gap), float(min(apart.max(), gap)), float(max(high, unseen if languages > 1 else 0))),
        "variance": Bounded(
            value, float(max(0, min(q_low, 2 * value - q_high))), float(max(q_high, 2 * value - q_low, possible))
        ),
    }


def ratio_of_sums(over: Array, under: Array, alpha: float) -> Bounded:
    """``over``'s sum divided by ``under``'s, bootstrapped over prompts (percentile). NaN and infinity carry through."""
    with np.errstate(all="ignore"):
        sums = resampled(np.column_stack([over, under]))
        drawn = sums[:, 0] / sums[:, 1]
        low, high = np.quantile(drawn, [alpha, 1 - alpha])
        return Bounded(float(over.sum() / under.sum()), float(low), float(high))


def paired_mean(differences: npt.NDArray[Any], alpha: float) -> Bounded:
    """The mean of paired differences between -1 and 1, bootstrapped over prompts.

    Each bound is of the differences and one more, the worst there can be on its side: without that, two models that
    answer twenty prompts alike would have been shown to be equal. Where all changes go one way, their share is a
    proportion like any other, and its bound on that side exact.
    """
    n = len(differences)
    means = resampled(np.column_stack([np.append(differences, end) for end in (-1.0, 1.0)])) / (n + 1)
    low = float(np.quantile(means[:, 0], alpha, method="lower"))
    high = float(np.quantile(means[:, 1], 1 - alpha, method="higher"))
    if np.isin(differences, (-1.0, 0.0)).all():
        low = -upper_bound(-differences.sum(), n, alpha)
    if np.isin(differences, (0.0, 1.0)).all():
        high = upper_bound(differences.sum(), n, alpha)
    return Bounded(float(differences.mean()), low, high)


def paired_tests(pairs: Sequence[tuple[int, int]]) -> tuple[Array, Array]:
    """McNemar's exact two-sided p for counts of (better, worse) prompts, and Holm's correction over all of them."""
    p = np.array([mcnemar([[0, better], [worse, 0]], exact=True).pvalue for better, worse in pairs], float)
    p = np.minimum(p, 1.0)
    return p, np.asarray(multipletests(p, method="holm")[1]) if len(p) else p
