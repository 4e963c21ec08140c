"""One line of a verdict: what was measured, what it had to clear, and in words why it did not."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypedDict

from mlc.languages.tags import language_name

Comparison = Literal["at least", "at most", "more than"]
PASSES = {"at least": operator.ge, "at most": operator.le, "more than": operator.gt}


class Rule(TypedDict):
    """One line of the verdict. ``language`` is null for a rule about all of them; ``n`` counts prompts.

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


def shown(rule: str, number: float) -> str:
    return f"{100 * number:.3g} %" if is_share(rule) else f"{number:.4g}"


def title(rule: str) -> str:
    """``over_refusal_mean`` -> ``over-refusal mean``."""
    return rule.replace("over_refusal", "over-refusal").replace("_", " ")


def line(rule: str, language: str | None, measured: Measured, threshold: float, comparison: Comparison) -> Rule:
    """The line of a rule; without a finite value and bound it fails."""
    known = math.isfinite(measured.value) and math.isfinite(measured.bound)
    passed = known and PASSES[comparison](measured.bound, threshold)
    reason = None
    if not known:
        reason = measured.problem or "not a finite number"
    elif not passed:
        limit = "limit {}" if comparison == "at most" else f"{comparison} {{}} needed"
        value, bound = shown(rule, measured.value), shown(rule, measured.bound)
        reason = measured.problem or f"{value} (bound {bound}), {limit.format(shown(rule, threshold))}"
    return Rule(
        rule=rule,
        language=language,
        n=measured.n,
        value=measured.value if known else None,
        bound=measured.bound if known else None,
        threshold=threshold,
        comparison=comparison,
        passed=passed,
        reason=reason,
        hits=measured.hits,
        alpha=measured.alpha,
        method=measured.method,
    )


def sentence(rule: Rule) -> str:
    """A failed rule for people: ``over-refusal in Swahili: 31 % (bound 39 %), limit 10 %``."""
    where = f" in {language_name(rule['language'])}" if rule["language"] else ""
    return f"{title(rule['rule'])}{where}: {rule['reason']}"


def headlines(rules: Sequence[Rule]) -> dict[str, Any]:
    """A verdict in a handful of numbers: how many rules, how many failed, and of each rate with an interval the mean
    over its languages, the worst of them, and the worst bound. A rate without a number in some language has none."""
    found: dict[str, Any] = {"rules": len(rules), "rules_failed": sum(not rule["passed"] for rule in rules)}
    for name in dict.fromkeys(rule["rule"] for rule in rules if rule["alpha"] is not None):
        lines = [rule for rule in rules if rule["rule"] == name]
        values = [rule["value"] for rule in lines if rule["value"] is not None]
        bounds = [rule["bound"] for rule in lines if rule["bound"] is not None]
        worst = max if lines[0]["comparison"] == "at most" else min
        if len(values) == len(lines):
            found[name] = {"mean": sum(values) / len(values), "worst": worst(values), "worst_bound": worst(bounds)}
    return found
