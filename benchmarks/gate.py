"""Is the gate right? Simulates models of known true rates and writes the tables of docs/gates.md.

    OMP_NUM_THREADS=1 python benchmarks/gate.py   # a quarter of an hour on one core
    python benchmarks/gate.py --speed    # 10,000 sample lines, scored and bootstrapped

Eight languages answer the same prompts; a Gaussian copula with one factor per prompt correlates them. What is drawn is
how many of the prompts have each of the 256 patterns of good and bad replies: every estimator needs no more. Decisions
are the gate's own bounds, looked up by the number of hits, and the intervals are those of mlc.evaluation.statistics, of
all simulations at once; tests hold both against what is shipped. Two shortcuts, neither of which changes what is
estimated: exact bounds of whole counts are looked up, and the bootstrap draws 1,000 times instead of 10,000.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from scipy.stats import binom, norm

sys.path.insert(0, str(Path(__file__).parents[1]))

from mlc.evaluation import statistics
from mlc.evaluation.rates import agreement
from mlc.evaluation.statistics import exact_bounds, resampled
from mlc.gates.power import prompts_needed
from mlc.progress import track

LANGUAGES, THRESHOLD, CONFIDENCE = 8, 0.9, 0.95
ALPHA = (1 - CONFIDENCE) / LANGUAGES
SIMULATIONS = 10_000
CORRELATIONS = (0.0, 0.5, 0.9)
SIZES, RATES = (20, 50, 100, 168, 500, 2000), (0.5, 0.7, 0.9, 0.95, 0.99, 0.999)
DRAWS = 1000  # of the bootstrap
AT_ONCE = 250  # simulations whose draws are held at once
DOCUMENT = Path(__file__).parents[1] / "docs" / "gates.md"
BEGIN, END = "<!-- benchmarks/gate.py: begin -->", "<!-- benchmarks/gate.py: end -->"
Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
GOOD = (np.arange(2**LANGUAGES)[:, None] >> np.arange(LANGUAGES)) & 1  # patterns x languages: is the reply good?


def probabilities(rates: npt.ArrayLike, correlation: float) -> Array:
    """Of each pattern, by quadrature over the prompt's factor; ``correlation`` is the copula's, of two languages."""
    factor = np.linspace(-9, 9, 4001)
    at = norm.cdf((norm.ppf(rates) - np.sqrt(correlation) * factor[:, None]) / np.sqrt(1 - correlation))
    of_pattern = np.where(GOOD[:, None], at, 1 - at).prod(axis=2) @ norm.pdf(factor)
    return np.asarray(of_pattern / of_pattern.sum())


def simulate(rng: np.random.Generator, simulations: int, n: int, rates: npt.ArrayLike, correlation: float) -> Counts:
    """How many of n prompts have each pattern, simulations x patterns."""
    return rng.multinomial(n, probabilities(rates, correlation), simulations)


def hits(rng: np.random.Generator, n: int, rates: npt.ArrayLike, correlation: float) -> Counts:
    """Good replies per simulation and language."""
    return simulate(rng, SIMULATIONS, n, rates, correlation) @ GOOD


# How each gate decides from the hits per language: simulations x languages -> simulations.
def gate(counts: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.bool_]:
    """The gate: the exact bound in every language clears the threshold, at a level shared out among them."""
    passes = exact_bounds(np.arange(n + 1), n, ALPHA)[0] >= THRESHOLD
    return np.asarray(passes[counts].all(axis=1))


def points(counts: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.bool_]:
    """Naive: every language's point estimate is at the threshold."""
    return np.asarray((counts / n >= THRESHOLD).all(axis=1))


def mean_point(counts: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.bool_]:
    """Naive: the average of the point estimates is at the threshold."""
    return np.asarray((counts / n).mean(axis=1) >= THRESHOLD)


def pooled(counts: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.bool_]:
    """Naive: a bound on all replies together, as if a prompt's languages were so many prompts."""
    passes = exact_bounds(np.arange(n * LANGUAGES + 1), n * LANGUAGES, 1 - CONFIDENCE)[0] >= THRESHOLD
    return np.asarray(passes[counts.sum(axis=1)])


GATES: dict[str, Callable[[npt.NDArray[np.int64], int], npt.NDArray[np.bool_]]] = {
    "the gate": gate,
    "points, each language": points,
    "points, mean": mean_point,
    "pooled bound": pooled,
}
BAD = {
    "one language at 0.9": [0.99] * 7 + [0.8999],
    "one language at 0.85": [0.99] * 7 + [0.85],
    "one language at 0.5": [0.99] * 7 + [0.5],
    "all languages at 0.9": [0.8999] * 8,
}


def percent(value: float) -> str:
    return f"{100 * value:.1f}" if value > 0.0005 or value == 0 else f"{100 * value:.2f}"


def with_error(share: float, simulations: int) -> str:
    """A share of simulations in percent, with its Monte-Carlo standard error."""
    return f"{percent(share)} ± {100 * np.sqrt(share * (1 - share) / simulations):.2g}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def false_promotions(rng: np.random.Generator) -> str:
    """Promotions of models that are below the threshold, in percent."""
    cases = [(name, n, r) for name in BAD for n in (100, 168, 500) for r in CORRELATIONS]
    rows = []
    for name, n, r in track(cases, "false promotions"):
        counts = hits(rng, n, BAD[name], r)
        cells = (with_error(decide(counts, n).mean(), SIMULATIONS) for decide in GATES.values())
        rows.append([name, str(n), f"{r:g}", *cells])
    return table(["truly", "prompts", "correlation", *GATES], rows)


def powers(rng: np.random.Generator) -> str:
    """Promotions of models above the threshold at the sizes that the plan recommends, in percent."""
    rows = []
    for rate in (0.95, 0.975, 0.99):
        for target in (0.8, 0.9):
            n = prompts_needed(target, 1 - THRESHOLD, ALPHA, 1 - rate, LANGUAGES)
            assert n is not None
            shares = [gate(hits(rng, n, [rate] * LANGUAGES, r), n).mean() for r in CORRELATIONS]
            cells = (with_error(share, SIMULATIONS) for share in shares)
            rows.append([f"{rate:g}", f"{target:.0%}", str(n), *cells])
    return table(["true rate", "power asked", "prompts", *(f"passes, correlation {r:g}" for r in CORRELATIONS)], rows)


def exact_coverage() -> str:
    """Coverage of the exact interval of one language's rate, computed rather than simulated, in percent."""
    rows = []
    for n in SIZES:
        low, high = exact_bounds(np.arange(n + 1), n, 0.025)
        inside = [(low <= rate) & (rate <= high) for rate in RATES]
        covered = [
            float(binom.pmf(np.arange(n + 1), n, rate)[ok].sum()) for rate, ok in zip(RATES, inside, strict=True)
        ]
        rows.append([str(n), *map(percent, covered)])
    return table(["prompts", *(f"rate {rate:g}" for rate in RATES)], rows)


@cache
def weights(n: int) -> npt.NDArray[np.float32]:
    """How often each of n prompts is in each draw of ``statistics.resampled``."""
    drawn = np.random.default_rng(0).integers(0, n, (DRAWS, n)) + n * np.arange(DRAWS)[:, None]
    return np.bincount(drawn.ravel(), minlength=DRAWS * n).reshape(DRAWS, n).astype(np.float32)


@cache
def _looked_up(n: float, alpha: float) -> tuple[Array, Array]:
    return exact_bounds(np.arange(n + 1), n, alpha)


def table_bounds(count: npt.ArrayLike, n: npt.ArrayLike, alpha: float) -> tuple[Array, Array]:
    """``statistics.exact_bounds``, looked up where it is about whole counts of one n."""
    count, n = np.asarray(count), np.asarray(n)
    if n.ndim or count.dtype != np.int64:
        return exact_bounds(count, n, alpha)
    low, high = _looked_up(float(n), alpha)
    return low[count], high[count]


def clustered(counts: Counts, values: Array, n: int) -> tuple[Array, Array]:
    """``statistics.clustered_mean`` of a value per prompt, given the value of each pattern."""
    value = counts @ values / n
    rare = (value < 0.5).astype(float)
    mean, square = ((counts @ values**power + rare) / (n + 1) for power in (1, 2))
    return statistics.effective_bounds(value, mean, square - mean**2, n + 1, 0.025)


Intervals = dict[str, tuple[Array, Array]]


def intervals(counts: Counts, n: int) -> Intervals:
    """The 95% intervals across languages of every simulation; the first language is the source."""
    good = counts @ GOOD
    more, fewer = (counts @ (GOOD[:, 1:] > GOOD[:, :1])), (counts @ (GOOD[:, 1:] < GOOD[:, :1]))
    # prompts x (simulations x languages): the prompts in the order of their patterns, which draws know nothing of
    prompts = np.repeat(np.tile(np.arange(len(GOOD)), len(counts)), counts.ravel()).reshape(len(counts), n)
    outcomes = GOOD.astype(np.float32)[prompts].transpose(1, 0, 2).reshape(n, -1)
    drawn = (weights(n) @ outcomes).reshape(DRAWS, len(counts), LANGUAGES) / np.float32(n)
    low, high = np.quantile(drawn.mean(axis=-1), [0.025, 0.975], axis=0)
    return {
        "mean": clustered(counts, GOOD.mean(axis=1), n),
        "worst": statistics.worst_bounds(good, n, 0.025),
        "PAG": clustered(counts, agreement(GOOD.astype(float)), n),
        "gap": statistics.gap_bounds(more, fewer, n, 0.025),
        "variance": statistics.variance_bounds(good / n, drawn, n, 0.025),
        "mean, percentile bootstrap": (low, high),
    }


def truths(rates: Array, correlation: float) -> dict[str, float]:
    """What the intervals should hold."""
    return {
        "mean": float(rates.mean()),
        "worst": float(rates.min()),
        "PAG": float(probabilities(rates, correlation) @ agreement(GOOD.astype(float))),
        "gap": float(np.abs(rates - rates[0]).max()),
        "variance": float(np.var(100 * rates) / 100),
        "mean, percentile bootstrap": float(rates.mean()),
    }


def across_coverage(rng: np.random.Generator, simulations: int) -> str:
    """The lowest and the average coverage of the intervals across languages over all rates and correlations."""
    statistics.exact_bounds = table_bounds
    covered: dict[tuple[int, str], list[float]] = {}
    cases = [(n, rate, r, low) for n in SIZES for rate in RATES for r in CORRELATIONS for low in (rate, rate - 0.1)]
    for n, rate, r, low in track(cases, "coverage across languages"):
        rates = np.array([rate] * (LANGUAGES - 1) + [low])
        truth = truths(rates, r)
        counts = simulate(rng, simulations, n, rates, r)
        inside: dict[str, list[Any]] = {}
        for chunk in np.split(counts, range(AT_ONCE, simulations, AT_ONCE)):
            for name, (below, above) in intervals(chunk, n).items():
                inside.setdefault(name, []).append((below - 1e-6 <= truth[name]) & (truth[name] <= above + 1e-6))
        for name, runs in inside.items():
            covered.setdefault((n, name), []).append(float(np.concatenate(runs).mean()))
    statistics.exact_bounds = exact_bounds
    names = list(truth)
    rows = []
    for n in SIZES:
        cells = [covered[n, name] for name in names]
        rows.append([str(n), *(f"{with_error(min(c), simulations)} / {percent(float(np.mean(c)))}" for c in cells)])
    return table(["prompts", *names], rows)


def champion(rng: np.random.Generator) -> str:
    """How often a candidate that is truly worse in one language is taken for no worse, in percent."""
    margin, rows = 0.02, []
    for n in track((50, 100, 168, 500), "against the champion"):
        statistics.resampled = lambda columns: weights(len(columns)) @ columns
        for worse, better in ((0.02, 0.0), (0.03, 0.01), (0.07, 0.05)):
            drawn = rng.multinomial(n, [worse, better, 1 - worse - better], SIMULATIONS)
            pairs, times = np.unique(drawn, axis=0, return_counts=True)
            passed = np.zeros((len(pairs), 2), dtype=bool)
            for i, counts in enumerate(pairs):
                x = np.repeat([-1.0, 1.0, 0.0], counts)
                plain = np.quantile(statistics.resampled(x[:, None])[:, 0] / n, 0.05)
                passed[i] = statistics.paired_mean(x, 0.05).low >= -margin, plain >= -margin
            shares = times @ passed / SIMULATIONS
            cells = (with_error(share, SIMULATIONS) for share in shares)
            rows.append([str(n), f"{worse:.0%} worse, {better:.0%} better", *cells])
    statistics.resampled = resampled
    return table(["prompts", "truly", "taken for no worse", "by a plain bootstrap"], rows)


def samples(n: int) -> Any:
    """``n`` sample lines, half harmful, in eight languages."""
    import pandas as pd

    rng = np.random.default_rng(0)
    prompts = n // LANGUAGES
    number, language = np.divmod(np.arange(prompts * LANGUAGES), LANGUAGES)
    harmful, bad = number < prompts // 2, rng.random(prompts * LANGUAGES) < 0.05
    return pd.DataFrame(
        {
            "prompt_id": [f"p{i}" for i in number],
            "language": np.array(["en", "es", "ru", "zh", "ja", "ar", "hi", "sw"])[language],
            "category": [f"c{i % 10}" for i in number],
            "intent": np.where(harmful, "harmful", "benign"),
            "prompt": [f"prompt {i}" for i in number],
            "response": "a reply",
            "verdict": np.where(bad, np.where(harmful, "unsafe", "refused"), np.where(harmful, "refused", "safe")),
            "model": "m",
            "judge": "j",
            "judge_version": "1",
            "judge_raw": "",
            "response_language": np.array(["en", "es", "ru", "zh", "ja", "ar", "hi", "sw"])[language],
            "tokens": 3,
            "seconds": 0.1,
            "reference_tokens": np.where(harmful, np.nan, 10.0),
            "reference_nll": np.where(harmful, np.nan, 20.0 + rng.random(prompts * LANGUAGES)),
        }
    )


def speed() -> None:
    """Prints the processor time of reading, summarizing and judging 10,000 sample lines."""
    import json
    import tempfile

    from mlc.evaluation.rates import summarize
    from mlc.evaluation.samples import read_samples
    from mlc.gates.apply_rules import apply_rules
    from mlc.paths import Paths
    from mlc.settings import load_settings

    settings = load_settings(Paths(Path(__file__).parents[1]).params)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "samples.jsonl"
        frame = samples(10_000)
        path.write_text("".join(json.dumps(row) + "\n" for row in json.loads(frame.to_json(orient="records"))))
        started = time.process_time()
        read = read_samples(path)
        after_read = time.process_time()
        summarize(read, settings.languages.served, (), settings.languages.source)
        after_summary = time.process_time()
        apply_rules(read, read, settings.languages, settings.gate)
        ended = time.process_time()
    print(
        f"{len(read):,} lines, processor time: read {after_read - started:.1f} s, summarize"
        f" {after_summary - after_read:.1f} s, gate against as many {ended - after_summary:.1f} s"
    )


def main(
    only_speed: Annotated[bool, typer.Option("--speed")] = False,
    simulations: Annotated[int, typer.Option(help="of each cell of the coverage across languages")] = SIMULATIONS,
) -> None:
    """Writes the tables into docs/gates.md."""
    if only_speed:
        speed()
        return
    started = time.process_time()
    rng = np.random.default_rng(0)
    of = f"percent of {SIMULATIONS:,} simulations ± standard error"
    parts = {
        f"Promotions of models that are below the threshold, {of}": false_promotions(rng),
        f"Promotions at the recommended sizes, {of}": powers(rng),
        f"Taken for no worse than the champion, margin 0.02, {of}": champion(rng),
        "Coverage of the exact interval in one language, percent, nominal 95": exact_coverage(),
        f"Coverage across eight languages, percent of {simulations:,} simulations in each of 36 cells (rate,"
        " correlation), lowest ± standard error / average, nominal 95": across_coverage(rng, simulations),
    }
    text = "\n\n".join(f"**{title}**\n\n{part}" for title, part in parts.items())
    text += f"\n\n`python benchmarks/gate.py`, {time.process_time() - started:.0f} s of processor time."
    document = DOCUMENT.read_text(encoding="utf-8")
    before, after = document.partition(BEGIN)[0], document.partition(END)[2]
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    typer.run(main)
