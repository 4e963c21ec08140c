"""The result of one rule: what was measured, what it had to clear, and in words why it did not."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Literal, NamedTuple, TypedDict

from mlc.files import JsonPart
from mlc.languages.tags import language_name
from mlc.text import number, percent, title

Comparison = Literal["at least", "at most", "more than"]
PASSES = {"at least": operator.ge, "at most": operator.le, "more than": operator.gt}


class RuleResult(JsonPart):
    """One line of a verdict. ``language`` is null for a rule about all of them; ``n`` counts prompts.

    ``value`` and ``bound`` are shares (perplexity: a ratio; variance: a number), null when they cannot be computed;
    ``reason`` says why a rule failed and is null when it passed. ``hits`` of n prompts, at level ``alpha`` of one side,
    by ``method`` led to the bound; null where there is no such number.
    """

    rule: str
    language: str | None
    n: int
    value: float | None
    bound: float | None
    threshold: float
    comparison: Comparison
    passed: bool
    reason: str | None
    hits: int | None
    alpha: float | None
    method: str | None

    @property
    def where(self) -> str:
        """The language's name, or ``all``."""
        return language_name(self.language) if self.language else "all"

    @property
    def value_text(self) -> str:
        return value_text(self.rule, self.value)

    @property
    def bound_text(self) -> str:
        return value_text(self.rule, self.bound)

    @property
    def limit(self) -> str:
        """What the bound has to be: ``at least 90%``."""
        return f"{self.comparison} {threshold_text(self.rule, self.threshold)}"

    @property
    def sentence(self) -> str:
        """A failed rule for people: ``over-refusal in Swahili: 31.0% (bound 39.2%), limit 10%``."""
        where = f" in {language_name(self.language)}" if self.language else ""
        return f"{title(self.rule)}{where}: {self.reason}"


class Measured(NamedTuple):
    """A value with its bound, or why there is none: ``problem``."""

    n: int
    value: float = math.nan
    bound: float = math.nan
    problem: str | None = None
    hits: int | None = None
    alpha: float | None = None
    method: str | None = None


def is_share(rule: str) -> bool:
    """Whether a rule's numbers are shares, shown as percentages."""
    return rule != "perplexity_ratio" and not rule.endswith("_variance")


def value_text(rule: str, value: float | None) -> str:
    """A rule's value or bound: ``31.2%``, or ``1.047`` for what is no share."""
    return percent(value) if is_share(rule) else number(value)


def threshold_text(rule: str, threshold: float) -> str:
    """A rule's threshold as it was set: ``90%``, or ``1.1`` for what is no share."""
    return f"{100 * threshold:.6g}%" if is_share(rule) else f"{threshold:.6g}"


def result(rule: str, language: str | None, measured: Measured, threshold: float, comparison: Comparison) -> RuleResult:
    """The result of a rule; without a finite value and bound it fails."""
    known = math.isfinite(measured.value) and math.isfinite(measured.bound)
    passed = known and PASSES[comparison](measured.bound, threshold)
    reason = None
    if not known:
        reason = measured.problem or "not a finite number"
    elif not passed:
        limit = "limit {}" if comparison == "at most" else f"{comparison} {{}} needed"
        value, bound = value_text(rule, measured.value), value_text(rule, measured.bound)
        reason = measured.problem or f"{value} (bound {bound}), {limit.format(threshold_text(rule, threshold))}"
    return RuleResult(
        rule=rule,
        language=language,
        n=measured.n,
        value=measured.value if known else None,
        bound=measured.bound if known else None,
        threshold=threshold,
        comparison=comparison,
        passed=bool(passed),
        reason=reason,
        hits=measured.hits,
        alpha=measured.alpha,
        method=measured.method,
    )


class RateSummary(TypedDict):
    """A rate's mean over its languages, the worst of them, and the worst bound."""

    mean: float
    worst: float
    worst_bound: float


def summary_metrics(results: Sequence[RuleResult]) -> dict[str, int | RateSummary]:
    """A verdict in a handful of numbers: how many ``rules``, how many failed (``rules_failed``), and a summary of each
    rate with an interval, by its name. A rate without a number in some language has none."""
    summary: dict[str, int | RateSummary] = {
        "rules": len(results),
        "rules_failed": sum(not result.passed for result in results),
    }
    for name in dict.fromkeys(result.rule for result in results if result.alpha is not None):
        of_rule = [result for result in results if result.rule == name]
        values = [result.value for result in of_rule if result.value is not None]
        bounds = [result.bound for result in of_rule if result.bound is not None]
        worst = max if of_rule[0].comparison == "at most" else min
        if len(values) == len(of_rule):
            summary[name] = {"mean": sum(values) / len(values), "worst": worst(values), "worst_bound": worst(bounds)}
    return summary
