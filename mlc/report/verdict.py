"""The verdict on the page: in words first, then every rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlc.gates import rules as gate_rules
from mlc.languages.tags import language_name
from mlc.report import words


def _reason(rule: Mapping[str, Any], candidate: Mapping[str, Any]) -> str:
    """``over-refusal in Swahili 31.0 % [24.1, 38.7], limit 10 %``, or the gate's own sentence."""
    estimate = candidate["languages"].get(rule["language"], {}).get(rule["rule"])
    if not estimate or rule["value"] is None:
        return gate_rules.sentence(rule)  # type: ignore[arg-type]
    low, high = (f"{100 * estimate[side]:.1f}" for side in ("low", "high"))
    limit = f"{'limit' if rule['comparison'] == 'at most' else rule['comparison']} "
    return (
        f"{gate_rules.title(rule['rule'])} in {language_name(rule['language'])} {words.percent(rule['value'])} "
        f"[{low}, {high}], {limit}{gate_rules.shown(rule['rule'], rule['threshold'])}"
    )


def _shortfall(rule: Mapping[str, Any]) -> float:
    """By how much a rule failed; one without a value comes last, for its sentence says least."""
    return -1.0 if rule["bound"] is None else abs(rule["bound"] - rule["threshold"]) / max(abs(rule["threshold"]), 0.01)


def headline(verdict: Mapping[str, Any], registration: Mapping[str, Any], candidate: Mapping[str, Any]) -> str:
    """What happened, as a sentence; of several failed rules the one that failed by most."""
    if not verdict["passed"]:
        failed = [rule for rule in verdict["rules"] if not rule["passed"]]
        more = len(failed) - 1
        return f"Not promoted: {_reason(max(failed, key=_shortfall), candidate)}" + (
            f", and {more} more" if more else ""
        )
    if registration["promoted"]:
        return f"Promoted: version {registration['version']} is champion"
    return f"Not promoted: {registration['reason']}"


def notes(verdict: Mapping[str, Any], registration: Mapping[str, Any]) -> list[str]:
    """What else to know at once: what became of the candidate, and which model serves now."""
    if verdict["passed"] and registration["promoted"]:
        return [f"It passed all {len(verdict['rules'])} rules of the gate.", *verdict["notes"]]
    version, champion = registration["version"], registration["champion"]
    candidate = (
        f"The candidate is version {version} of {registration['model']}." if version else "It was not registered."
    )
    serving = f"Champion is still version {champion}." if champion else "There is no champion."
    return [f"{candidate} {serving}", *verdict["notes"]]


def rules(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rules as the page shows them, the failed ones first."""
    return [_rule(rule) for rule in sorted(found, key=lambda rule: bool(rule["passed"]))]


def _rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    shown = words.percent if gate_rules.is_share(rule["rule"]) else words.number
    numbers = {key: shown(rule[key]) for key in ("value", "bound")}
    return {
        **rule,
        **numbers,
        "title": gate_rules.title(rule["rule"]),
        "threshold": f"{rule['comparison']} {shown(rule['threshold'])}",
    }


def figures(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The four figures beside the verdict: of the served languages, what each model does."""
    chosen = [
        ("Safe rate, worst language", "safe_rate", "worst"),
        ("Safe rate, mean", "safe_rate", "mean"),
        ("Over-refusal, worst language", "over_refusal", "worst"),
        ("Language fidelity, worst language", "fidelity", "worst"),
    ]
    return [
        {"title": title, "roles": {role: found["served"].get(rate, {}).get(measure) for role, found in metrics.items()}}
        for title, rate, measure in chosen
    ]
