"""What benchmarks/gate.py simulates is what is shipped: its intervals, of many samples at once, are the library's."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mlc.evaluation import statistics
from mlc.evaluation.rates import agreement


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark", Path(__file__).parents[2] / "benchmarks" / "gate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("rate", [0.5, 0.9, 0.999])
def test_intervals_of_counts_are_those_of_samples(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    n, rates = 40, [rate] * 7 + [rate - 0.1]
    counts = benchmark.simulate(np.random.default_rng(0), 6, n, rates, 0.5)
    monkeypatch.setattr(statistics, "exact_bounds", benchmark.table_bounds)
    intervals = benchmark.intervals(counts, n)
    monkeypatch.undo()
    monkeypatch.setattr(statistics, "RESAMPLES", benchmark.DRAWS)
    for at, of_pattern in enumerate(counts):
        matrix = np.repeat(benchmark.GOOD, of_pattern, axis=0).astype(float)
        shipped = {
            "mean": statistics.clustered_mean(matrix, 0.025),
            "worst": statistics.worst_language(matrix, 0.025, True),
            "PAG": statistics.clustered_mean(agreement(matrix)[:, None], 0.025),
            "gap": statistics.language_gap(matrix, 0.025, 0),
            "variance": statistics.language_variance(matrix, 0.025),
        }
        for name, bounded in shipped.items():
            low, high = intervals[name]
            assert (low[at], high[at]) == pytest.approx((bounded.low, bounded.high), abs=1e-4), name


def test_patterns_have_the_rates_and_the_correlation_asked_for(benchmark: ModuleType) -> None:
    rates = np.array([0.999, 0.9, 0.5, 0.7, 0.95, 0.99, 0.9, 0.8])
    chances = benchmark.probabilities(rates, 0.5)
    assert chances @ benchmark.GOOD == pytest.approx(rates, abs=1e-9)
    both = chances @ (benchmark.GOOD[:, 2] & benchmark.GOOD[:, 3])
    rng = np.random.default_rng(0)
    factor, own = rng.standard_normal((400_000, 1)), rng.standard_normal((400_000, 2))
    good = np.sqrt(0.5) * (factor + own) < [0.0, 0.5244005]  # the quantiles of 0.5 and 0.7
    assert both == pytest.approx(good.all(axis=1).mean(), abs=0.004)
    assert both > 0.5 * 0.7 + 0.05
    apart = benchmark.probabilities(rates, 0.0)
    assert apart[-1] == pytest.approx(rates.prod())
