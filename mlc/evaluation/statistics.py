"""Intervals and tests whose unit is the prompt: the same prompt in ten languages is one draw.

``alpha`` is always the level of one side: a two-sided 95% interval has 0.025 on each. How well each interval covers
is measured by ``benchmarks/gate.py``, and the table is in docs/gates.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from mlc.evaluation.metrics import Estimate

Array = npt.NDArray[np.float64]
Matrix = Array  # prompts x languages, NaN where a prompt has no variant
RESAMPLES = 10_000  # a level shared out among thirty languages still leaves dozens of draws beyond the bound
DRAWS = 20_000  # from the posterior of a rate that was corrected for its judge's errors
_CHUNK = 1_000_000  # weights held at once


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


def effective_bounds(
    value: float | Array, mean: float | Array, variance: float | Array, rows: int, alpha: float
) -> tuple[Array, Array]:
    """Exact bounds of ``value`` at the effective number of prompts, of any number of samples at once.

    ``mean`` and ``variance`` are those of the ``rows`` prompts' contributions, the one more prompt of
    :func:`clustered_mean` among them.
    """
    effective = (rows - 1) / np.minimum(1.0, variance / (mean * (1 - mean)))
    return exact_bounds(value * effective, effective, alpha)


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
    low, high = effective_bounds(value, rates.mean(), np.mean(influence**2), rows, alpha)
    return Bounded(value, float(low), float(high))


def worst_bounds(hits: Array, n: npt.ArrayLike, alpha: float) -> tuple[Array, Array]:
    """Bounds of the worst of the rates along the last axis, for a rate that is better higher.

    That the worst is at least x says that all are, so the lowest of the lower bounds, each at ``alpha``, does; that it
    is at most x is said of one language, picked from all of them, so there the level is shared out.
    """
    low = exact_bounds(hits, n, alpha)[0].min(axis=-1)
    return low, exact_bounds(hits, n, alpha / hits.shape[-1])[1].min(axis=-1)


def worst_language(outcomes: Matrix, alpha: float, higher_is_better: bool) -> Bounded:
    """The worst language's rate, with :func:`worst_bounds`."""
    seen = np.isfinite(outcomes)
    hits, n = np.where(seen, outcomes, 0.0).sum(axis=0), seen.sum(axis=0)
    if not higher_is_better:
        mirrored = worst_language(1 - outcomes, alpha, True)
        return Bounded(1 - mirrored.value, 1 - mirrored.high, 1 - mirrored.low)
    low, high = worst_bounds(hits, n, alpha)
    return Bounded(float((hits / n).min()), float(low), float(high))


def difference_bounds(more: Array, fewer: Array, n: npt.ArrayLike, alpha: float) -> tuple[Array, Array]:
    """Bounds of the difference of two rates on the same ``n`` prompts, one-sided at ``alpha`` each.

    ``more`` prompts hit in the first alone, ``fewer`` in the second alone; the others say nothing. Both shares have
    exact bounds, which are put together as by Zou and Donner (2008, MOVER) with the shares' own correlation. Where all
    differences go one way that is the exact bound of their share. Without a prompt nothing is known: -1 and 1.
    """
    n = np.asarray(n, float)
    sure = np.maximum(n, 1)
    a, b = more / sure, fewer / sure
    (low_a, high_a), (low_b, high_b) = exact_bounds(more, sure, alpha), exact_bounds(fewer, sure, alpha)
    with np.errstate(invalid="ignore"):
        correlation = np.nan_to_num(-np.sqrt(a * b / ((1 - a) * (1 - b))), nan=0.0, neginf=0.0)

    def apart(one: Array, other: Array) -> Array:
        return np.asarray(np.sqrt(one**2 + other**2 - 2 * correlation * one * other))

    low = np.maximum(-1.0, a - b - apart(a - low_a, high_b - b))
    high = np.minimum(1.0, a - b + apart(high_a - a, b - low_b))
    return np.where(n > 0, low, -1.0), np.where(n > 0, high, 1.0)


def gap_bounds(more: Array, fewer: Array, n: npt.ArrayLike, alpha: float) -> tuple[Array, Array]:
    """Bounds of the largest distance from the source language; along the last axis the other languages.

    ``more``, ``fewer`` and ``n`` as in :func:`difference_bounds`, of each language and the source. That the gap is at
    most x is a promise about all languages, so each is bounded at ``alpha``; that it is at least x is said of one
    language, picked from all of them on either side, so the level is shared out among both sides of all.
    """
    low, high = difference_bounds(more, fewer, n, alpha)
    above = np.maximum(high, -low).max(axis=-1)
    low, high = difference_bounds(more, fewer, n, alpha / (2 * more.shape[-1]))
    return np.maximum(0.0, np.maximum(low, -high).max(axis=-1)), above


def language_gap(outcomes: Matrix, alpha: float, source: int) -> Bounded:
    """The largest distance of a language's rate from the source language's, with :func:`gap_bounds`."""
    rates = np.nanmean(outcomes, axis=0)
    value = float(np.abs(rates - rates[source]).max())
    if outcomes.shape[1] == 1:
        return Bounded(0.0, 0.0, 0.0)
    differences = np.delete(outcomes, source, axis=1) - outcomes[:, [source]]
    more, fewer = (differences > 0).sum(axis=0), (differences < 0).sum(axis=0)
    low, high = gap_bounds(more, fewer, np.isfinite(differences).sum(axis=0), alpha)
    return Bounded(value, min(float(low), value), max(float(high), value))  # missing variants count in the value alone


def _variance(rates: Array) -> Array:
    return np.asarray(np.var(100 * rates, axis=-1) / 100)


def variance_bounds(rates: Array, drawn: Array, fewest: int, alpha: float) -> tuple[Array, Array]:
    """Bounds of the variance between ``rates`` (..., languages), from bootstrap ``drawn`` ones (draws, ..., languages).

    As noise alone makes a variance positive, the lower bound is the lower of the percentile and the basic one; and as
    languages that all agree resample to zero, the upper bound is not below what a failure unseen in the ``fewest``
    prompts of a language leaves possible.
    """
    value, spreads, languages = _variance(rates), _variance(drawn), rates.shape[-1]
    low, high = np.quantile(spreads, [alpha, 1 - alpha], axis=0)
    possible = 100 * (1 - alpha ** (1 / fewest)) ** 2 * (languages - 1) / languages**2
    lowest = np.maximum(0, np.minimum(low, 2 * value - high))
    return lowest, np.maximum(possible, np.maximum(high, 2 * value - low))


def language_variance(outcomes: Matrix, alpha: float) -> Bounded:
    """Population variance of the languages' percentages, divided by 100 (the paper's), bootstrapped over prompts."""
    seen = np.isfinite(outcomes)
    languages = outcomes.shape[1]
    sums = resampled(np.hstack([np.where(seen, outcomes, 0.0), seen]))
    rates = np.nanmean(outcomes, axis=0)
    counts = sums[:, languages:]
    drawn = np.where(counts > 0, sums[:, :languages] / np.maximum(counts, 1), rates)  # missing from a draw: as it is
    low, high = variance_bounds(rates, drawn, int(seen.sum(axis=0).min()), alpha)
    return Bounded(float(_variance(rates)), float(low), float(high))


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
    # Holm, 1979. statsmodels' multipletests collects garbage on each call: a second, where torch is loaded.
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return p, corrected


def rogan_gladen(rate: Estimate, sensitivity: Estimate, specificity: Estimate, confidence: float = 0.95) -> Estimate:
    """The true rate behind one that was measured by a judge who errs (Rogan and Gladen, 1978).

    ``(rate + specificity - 1) / (sensitivity + specificity - 1)``, clipped to 0 and 1. Its interval carries the
    uncertainty of all three: each is drawn from its Beta distribution under Jeffreys' prior. For the safe rate,
    sensitivity is ``1 - false_unsafe`` and specificity ``1 - false_safe``. Assumes that the judge errs on the evaluated
    replies as often as on the labelled ones.

    Raises:
        ValueError: the judge is no better than chance (sensitivity + specificity is 1 or less).
    """
    youden = sensitivity["value"] + specificity["value"] - 1
    if youden <= 0:
        raise ValueError("the judge is no better than chance: its verdicts say nothing about the true rate")
    rng = np.random.default_rng(0)

    def drawn(e: Estimate) -> Any:
        hits = e["value"] * e["n"]
        return rng.beta(hits + 0.5, e["n"] - hits + 0.5, DRAWS)

    measured, sens, spec = (drawn(e) for e in (rate, sensitivity, specificity))
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = np.where(sens + spec > 1, (measured + spec - 1) / (sens + spec - 1), np.nan)
    # A draw in which the judge is no better than chance could be any rate: half of them below, half above.
    unknown = np.flatnonzero(np.isnan(draws))
    draws[unknown] = np.where(np.arange(len(unknown)) % 2, 1.0, 0.0)
    low, high = np.quantile(np.clip(draws, 0, 1), [(1 - confidence) / 2, (1 + confidence) / 2])
    value = float(np.clip((rate["value"] + specificity["value"] - 1) / youden, 0, 1))
    return Estimate(n=rate["n"], value=value, low=min(float(low), value), high=max(float(high), value))


def complement(estimate: Estimate) -> Estimate:
    return Estimate(n=estimate["n"], value=1 - estimate["value"], low=1 - estimate["high"], high=1 - estimate["low"])
