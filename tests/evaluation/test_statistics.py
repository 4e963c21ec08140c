"""Intervals across languages: they know of the clusters, cover where the bootstrap does not, and repeat themselves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, norm
from statsmodels.stats.multitest import multipletests

from mlc.evaluation.rates import agreement
from mlc.evaluation.statistics import (
    clustered_mean,
    difference_bounds,
    exact_bounds,
    gap_bounds,
    language_gap,
    language_variance,
    paired_mean,
    paired_tests,
    resampled,
    worst_language,
)


def outcomes(rng: np.random.Generator, n: int, rates: list[float], correlation: float) -> np.ndarray:
    own, shared = rng.standard_normal((n, len(rates))), rng.standard_normal((n, 1))
    return (np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own < norm.ppf(rates)).astype(float)


def test_exact_bounds_are_the_librarys() -> None:
    interval = binomtest(37, 40).proportion_ci(0.95, method="exact")
    assert exact_bounds(37, 40, 0.025) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_a_prompt_in_ten_languages_is_one_draw() -> None:
    one = (np.arange(200) < 180).astype(float)[:, None]
    copies, single = clustered_mean(np.repeat(one, 10, axis=1), 0.025), clustered_mean(one, 0.025)
    assert copies == pytest.approx(single)
    interval = binomtest(180, 200).proportion_ci(0.95, method="exact")
    assert (single.low, single.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_independent_languages_are_more_prompts() -> None:
    rng = np.random.default_rng(0)
    independent = clustered_mean(outcomes(rng, 400, [0.8] * 8, 0.0), 0.025)
    together = clustered_mean(outcomes(rng, 400, [0.8] * 8, 0.95), 0.025)
    assert independent.high - independent.low < 0.5 * (together.high - together.low)


def test_without_a_failure_nothing_says_that_languages_are_independent() -> None:
    bounded = clustered_mean(np.ones((50, 8)), 0.025)
    assert bounded.low == pytest.approx(0.025 ** (1 / 50), abs=0.005)
    assert bounded.high == 1.0


def test_missing_variants_leave_the_mean_of_languages() -> None:
    matrix = np.array([[1.0, 0.0], [1.0, np.nan], [0.0, np.nan], [1.0, 1.0]])
    assert clustered_mean(matrix, 0.025).value == pytest.approx((0.75 + 0.5) / 2)
    assert worst_language(matrix, 0.025, True).value == 0.5
    for bounded in (language_gap(matrix, 0.025, 0), language_variance(matrix, 0.025)):
        assert np.isfinite(list(bounded)).all() and bounded.low <= bounded.value <= bounded.high


@pytest.mark.parametrize(("n", "rate"), [(20, 0.99), (100, 0.999), (100, 0.8)])
@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_intervals_of_the_mean_cover(n: int, rate: float, correlation: float) -> None:
    rng, rates = np.random.default_rng(1), [rate] * 6
    intervals = [clustered_mean(outcomes(rng, n, rates, correlation), 0.025) for _ in range(300)]
    assert np.mean([b.low <= rate <= b.high for b in intervals]) >= 0.92  # 95% less three standard errors


def test_equal_languages_have_no_gap_and_no_variance() -> None:
    """A plain bootstrap finds both above zero: noise alone makes them positive."""
    rng, clear = np.random.default_rng(2), []
    for _ in range(40):
        matrix = outcomes(rng, 100, [0.9] * 4, 0.3)
        clear.append(language_gap(matrix, 0.025, 0).low == 0 and language_variance(matrix, 0.025).low == 0)
    assert np.mean(clear) >= 0.85
    apart = language_gap(outcomes(rng, 100, [0.9, 0.9, 0.9, 0.3], 0.3), 0.025, 0)
    assert 0.3 < apart.low < 0.6 < apart.high


def test_one_language_has_no_gap() -> None:
    assert language_gap(np.array([[1.0], [0.0]]), 0.025, 0) == (0.0, 0.0, 0.0)


def test_the_bounds_of_a_difference_are_exact_where_all_changes_go_one_way() -> None:
    counts = np.array([0, 3, 60])
    low, high = difference_bounds(counts, np.zeros(3, int), 60, 0.025)
    assert low == pytest.approx(np.maximum(exact_bounds(counts, 60, 0.025)[0] - exact_bounds(0, 60, 0.025)[1], low))
    assert high == pytest.approx(exact_bounds(counts, 60, 0.025)[1])
    mirrored = difference_bounds(np.zeros(3, int), counts, 60, 0.025)
    assert (low, high) == (pytest.approx(-mirrored[1]), pytest.approx(-mirrored[0]))
    assert difference_bounds(np.array(0), np.array(0), 0, 0.025) == (-1, 1)


@pytest.mark.parametrize("n", [20, 168])
@pytest.mark.parametrize(("rates", "correlation"), [((0.99, 0.9), 0.5), ((0.5, 0.5), 0.9), ((0.7, 0.6), 0.0)])
def test_bounds_of_a_difference_and_of_a_gap_cover(n: int, rates: tuple[float, float], correlation: float) -> None:
    """The old bootstrap covered 86 % in the worst cell. Both sides apart: a gate uses one of them."""
    rng, simulations = np.random.default_rng(3), 4000
    own, shared = rng.standard_normal((simulations, n, 2)), rng.standard_normal((simulations, n, 1))
    good = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own < norm.ppf(rates)
    more, fewer = ((good[..., 0] & ~good[..., 1]).sum(axis=1), (~good[..., 0] & good[..., 1]).sum(axis=1))
    true = rates[0] - rates[1]
    for (low, high), truth in (
        (difference_bounds(more, fewer, n, 0.025), true),
        (gap_bounds(more[:, None], fewer[:, None], n, 0.025), abs(true)),
    ):
        assert (low <= truth + 1e-9).mean() >= 0.968 and (high >= truth - 1e-9).mean() >= 0.968  # 97.5 less 3 errors


def test_the_worst_language_is_bounded_by_every_language() -> None:
    matrix = np.ones((60, 3))
    matrix[:12, 2] = 0
    bounded = worst_language(matrix, 0.025, True)
    assert bounded.value == pytest.approx(0.8)
    assert bounded.low == pytest.approx(exact_bounds(48, 60, 0.025)[0])
    assert bounded.high == pytest.approx(exact_bounds(48, 60, 0.025 / 3)[1])
    mirrored = worst_language(1 - matrix, 0.025, False)
    assert (mirrored.value, mirrored.low, mirrored.high) == tuple(
        pytest.approx(x) for x in (0.2, 1 - bounded.high, 1 - bounded.low)
    )


def test_no_change_is_proof_only_by_numbers() -> None:
    assert paired_mean(np.zeros(20), 0.05).low == pytest.approx(-(1 - 0.05 ** (1 / 20)))
    assert paired_mean(np.zeros(20), 0.05).high == pytest.approx(1 - 0.05 ** (1 / 20))
    mixed = paired_mean(np.array([1.0] * 10 + [-1.0] * 5 + [0.0] * 85), 0.05)
    assert mixed.low < 0 < mixed.value == pytest.approx(0.05) and mixed.high < 0.15


@pytest.mark.parametrize("pairs", [[(9, 1)], [(5, 5), (9, 1), (0, 7), (30, 2), (9, 1), (0, 0)], [(1, 0)] * 4])
def test_holms_correction_is_that_of_statsmodels(pairs: list[tuple[int, int]]) -> None:
    p, corrected = paired_tests(pairs)
    assert corrected == pytest.approx(multipletests(p, method="holm")[1])


def test_paired_tests_are_mcnemars_with_holms_correction() -> None:
    p, corrected = paired_tests([(9, 1), (3, 3), (0, 0)])
    assert p[0] == pytest.approx(binomtest(1, 10).pvalue) and p[1] == p[2] == 1.0
    assert list(corrected) == [pytest.approx(3 * p[0]), 1.0, 1.0]


def test_agreement_is_of_the_pairs_that_there_are() -> None:
    matrix = np.array([[1, 1, 1], [1, 0, 1], [np.nan, 0, 1], [np.nan, np.nan, 1]])
    assert list(agreement(matrix)) == [1.0, pytest.approx(1 / 3), 0.0]


def test_resampling_repeats_itself_and_columns_share_their_draws() -> None:
    values = np.random.default_rng(3).random(30)
    sums = resampled(np.column_stack([values, values, np.ones(30)]), 500)
    assert np.array_equal(sums, resampled(np.column_stack([values, values, np.ones(30)]), 500))
    assert np.array_equal(sums[:, 0], sums[:, 1]) and (sums[:, 2] == 30).all()
