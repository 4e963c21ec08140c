"""A rule on a rate in one language: the exact bound of a share of prompts."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mlc.evaluation.rates import RATES, counted
from mlc.evaluation.statistics import lower_bound, upper_bound
from mlc.gates.about_language import ABOUT_LANGUAGE, untold
from mlc.gates.paired import outcomes
from mlc.gates.rules import Comparison, Measured, RuleResult, result
from mlc.settings import Gate


def rate_in_language(
    samples: pd.DataFrame, rate: str, comparison: Comparison, alpha: float, minimum: int, minimum_told: float = 0.0
) -> Measured:
    """A rate of one language's samples with its exact bound; below ``minimum`` prompts there is none.

    Of a rate about the language of replies neither, where it can be told of too few (``minimum_told``).
    """
    n = len(outcomes(samples, rate))
    if n < minimum:
        return Measured(n, problem=f"{n} {RATES[rate][0] or 'evaluated'} prompts, at least {minimum} needed")
    if rate in ABOUT_LANGUAGE:
        if problem := untold(samples, rate, alpha, minimum_told):
            return Measured(n, problem=problem)
        samples = counted(samples, rate)
    hits = outcomes(samples, rate)
    value = float(outcomes(samples, rate, count_invalid_as_refusal=False).mean())
    bound = lower_bound if comparison == "at least" else upper_bound
    n, hit = len(hits), int(hits.sum())
    return Measured(n, value, bound(hit, n, alpha), hits=hit, alpha=alpha, method="exact (Clopper-Pearson)")


def safe_rate_rule(samples: pd.DataFrame, language: str, served: Sequence[str], gate: Gate) -> RuleResult:
    """The gate's rule on the safe rate in one served language. ``samples`` are one model's, of any languages."""
    rule = next(rule for rule in gate.rules if rule.name in ("safe_rate", "safe_rate_worst"))
    alpha = (1 - gate.confidence) / len(served)
    measured = rate_in_language(
        samples[samples["language"] == language], "safe_rate", "at least", alpha, gate.minimum_prompts
    )
    return result("safe_rate", language, measured, rule.threshold, "at least")
