"""What a set's wrong examples teach: good examples score near 1, wrong ones evenly, and limits keep alarms rare."""

from __future__ import annotations

import numpy as np
import pytest

from mlc.quality import evidence

RNG = np.random.default_rng(0)


def signs(n: int, shift: float) -> np.ndarray:
    """Square matrices whose diagonal stands out by ``shift``."""
    return (RNG.normal(size=(n, n)) + shift * np.eye(n)).astype(np.float32)


def test_a_text_that_belongs_elsewhere_scores_evenly_and_others_near_one() -> None:
    n, swapped = 300, np.arange(0, 300, 10)
    matrices = [signs(n, 3.0), signs(n, 2.0)]
    for matrix in matrices:
        matrix[swapped, swapped] = RNG.normal(size=len(swapped))
    values = evidence.against_wrong_pairs(matrices, np.ones(n, bool), evidence.FEWEST)
    assert np.delete(values, swapped).mean() > 0.97
    assert 0.3 < values[swapped].mean() < 0.7


def test_two_signs_tell_more_than_one_and_noise_takes_nothing_away() -> None:
    n, everything = 300, np.ones(300, bool)
    one, two, noise = signs(n, 2.0), signs(n, 2.0), signs(n, 0.0)
    alone = evidence.against_wrong_pairs([one], everything, 100)
    both = evidence.against_wrong_pairs([one, two], everything, 100)
    beside_noise = evidence.against_wrong_pairs([one, noise], everything, 100)
    assert both.mean() > alone.mean() + 0.02
    assert beside_noise.mean() > alone.mean() - 0.01


def test_a_sign_that_is_higher_for_wrong_examples_counts_for_nothing() -> None:
    good, wrong = RNG.normal(size=(200, 2)) + np.array([2, -2]), RNG.normal(size=(200, 2))
    weighing = evidence.weigh(good.astype(np.float32), wrong.astype(np.float32))
    assert weighing is not None and weighing.linear[0] > 0 and weighing.linear[1] == 0
    assert evidence.weigh(good[:, 1:].astype(np.float32), wrong[:, 1:].astype(np.float32)) is None


def test_one_odd_sign_alone_condemns_nothing() -> None:
    """One good text in twenty has a sign that all wrong ones have; its other sign is as good as any."""
    good = np.column_stack([np.where(np.arange(400) % 20, 1.0, -1.0), RNG.normal(4, 1, 400)]).astype(np.float32)
    wrong = np.column_stack([np.full(400, -1.0), RNG.normal(0, 1, 400)]).astype(np.float32)
    weighing = evidence.weigh(good, wrong, curved=True)
    assert weighing is not None
    odd = evidence.share_below(weighing(good[::20]), weighing(wrong))
    assert (odd > 0.9).mean() > 0.9


def test_few_rows_and_incomparable_ones_have_no_value() -> None:
    comparable = np.ones(50, bool)
    assert np.isnan(evidence.against_wrong_pairs([signs(50, 3.0)], comparable, evidence.FEWEST)).all()
    comparable[3] = False
    values = evidence.against_wrong_pairs([signs(50, 3.0)], comparable, evidence.FEWEST_ENCODED)
    assert np.isnan(values).tolist() == [n == 3 for n in range(50)]


def test_standardised_scores_know_rows_that_fit_every_text() -> None:
    scores = signs(100, 0.0)
    fit = evidence.standardised(scores, np.ones(100, bool))
    scores[:, 7] = scores[:, 7] * 3 + 9
    assert np.corrcoef(evidence.standardised(scores, np.ones(100, bool))[:, 7], fit[:, 7])[0, 1] > 0.8
    comparable = np.arange(100) != 3
    assert (evidence.standardised(scores, comparable)[3] == 0).all()


def test_the_limit_keeps_false_alarms_rare_and_finds_its_own_share() -> None:
    uniform = RNG.random(400).astype(np.float32)
    assert evidence.limit(uniform, 0.005) < 0.5 or (uniform < 0.5).mean() > 0.4
    assert evidence.limit(np.ones(400, np.float32), 0.005) > 0.9
    assert evidence.limit(np.zeros(0, np.float32), 0.005) == 0.0
    good = 1 - RNG.exponential(0.01, 900)
    values = np.concatenate([good, RNG.random(100)]).astype(np.float32)
    found = evidence.limit(values, 0.005)
    assert found > 0.8
    assert (good < found).mean() <= 0.01
    assert (values[900:] < found).mean() == pytest.approx(found, abs=0.12)
