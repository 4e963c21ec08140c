"""The verdict on the page: in words first, then every rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from mlc.evaluation.metrics import AcrossMeasures, Estimate, Metrics
from mlc.gates.rules import RuleResult, threshold_text
from mlc.gates.verdict import Verdict
from mlc.registry.registration import Registration
from mlc.text import HEADLINE_RATES, RateName, heading, interval, percent, title


def _reason(result: RuleResult, candidate: Metrics) -> str:
    """``over-refusal in Swahili 31.0% [24.1–38.7%], limit 10%``, or the gate's own sentence."""
    rates: Mapping[str, Any] = candidate.languages.get(result.language or "", {})
    estimate = rates.get(result.rule)
    if not estimate or result.value is None:
        return result.sentence
    limit = "limit" if result.comparison == "at most" else result.comparison
    return (
        f"{title(result.rule)} in {result.where} {percent(result.value)} [{interval(estimate)}], {limit}"
        f" {threshold_text(result.rule, result.threshold)}"
    )


def _shortfall(result: RuleResult) -> float:
    """By how much a rule failed; one without a value comes last, for its sentence says least."""
    if result.bound is None:
        return -1.0
    return abs(result.bound - result.threshold) / max(abs(result.threshold), 0.01)


def headline(verdict: Verdict, registration: Registration, candidate: Metrics) -> str:
    """What happened, as a sentence; of several failed rules the one that failed by most."""
    if not verdict.passed:
        failed = [result for result in verdict.rules if not result.passed]
        more = len(failed) - 1
        return f"Not promoted: {_reason(max(failed, key=_shortfall), candidate)}" + (
            f", and {more} more" if more else ""
        )
    if registration.promoted:
        return f"Promoted: version {registration.version} is champion"
    return f"Not promoted: {registration.reason}"


def notes(verdict: Verdict, registration: Registration) -> list[str]:
    """What else to know at once: what became of the candidate, and which model serves now."""
    if verdict.passed and registration.promoted:
        return [f"It passed all {len(verdict.rules)} rules of the gate.", *verdict.remarks]
    version, champion = registration.version, registration.champion
    candidate = f"The candidate is version {version} of {registration.model}." if version else "It was not registered."
    serving = f"Champion is still version {champion}." if champion else "There is no champion."
    return [f"{candidate} {serving}", *verdict.remarks]


def failed_first(results: Sequence[RuleResult]) -> list[RuleResult]:
    return sorted(results, key=lambda result: result.passed)


class Figure(TypedDict):
    """A rate across the served languages, of each model; null where it has none."""

    title: str
    roles: dict[str, Estimate | None]


def figures(metrics: Mapping[str, Metrics]) -> list[Figure]:
    """The four figures beside the verdict: of the served languages, what each model does."""
    chosen: list[tuple[RateName, Literal["mean", "worst"]]] = [
        ("safe_rate", "mean"),
        *((rate, "worst") for rate in HEADLINE_RATES[:3]),
    ]
    measure_titles = {"worst": "worst language", "mean": "mean"}
    return [
        {
            "title": f"{heading(rate)}, {measure_titles[measure]}",
            "roles": {role: _across(of_role, rate).get(measure) for role, of_role in metrics.items()},
        }
        for rate, measure in chosen
    ]


def _across(metrics: Metrics, rate: RateName) -> AcrossMeasures:
    return metrics.served.get(rate, {})
