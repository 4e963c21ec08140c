"""What the errors of language identification do to the gate: which rules nobody can pass, and fidelity without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from mlc.evaluation import identification
from mlc.evaluation.identification import Identification
from mlc.evaluation.metrics import Estimate
from mlc.evaluation.statistics import complement, rogan_gladen
from mlc.gates.about_language import ABOUT_LANGUAGE, WHERE_UNKNOWN
from mlc.gates.rules import Measured
from mlc.languages.check import LanguageCheck
from mlc.languages.tags import language_name
from mlc.prompts.schema import PromptRow
from mlc.settings import Gate, GateRule, Languages
from mlc.text import percent

DEPENDING = ABOUT_LANGUAGE | {"invalid"}  # rules that identification has a part in


def on_prompts(rows: Sequence[PromptRow], languages: Languages, gate: Gate) -> dict[str, Identification]:
    """Identification on prompts, in each served language that is identified; nothing where no rule depends on it.

    Raises:
        MlcError: the identifier that params.yaml names cannot be had.
    """
    if not any(rule.metric in DEPENDING for rule in gate.rules):
        return {}
    texts = {tag: [row.prompts[tag] for row in rows if tag in row.prompts] for tag in languages.served}
    return identification.measured(texts, _identified(languages), LanguageCheck.of(languages), gate.correct_fidelity)


def unattainable(found: Mapping[str, Identification], gate: Gate) -> list[str]:
    """Why no candidate whatever can pass a rule about the language of replies, one sentence per language.

    Only where that is sure: where the whole interval of what identification does on clean prompts is on the wrong side.
    """
    reasons = []
    for tag, measured in found.items():
        rules = {rule.name: why for rule in gate.rules if (why := _why_not(rule, measured, gate))}
        if rules:
            named = " and ".join(rules)
            reasons.append(
                f"{named} in {language_name(tag)}: {'; '.join(dict.fromkeys(rules.values()))}."
                f" To be able to judge it, {WHERE_UNKNOWN.format(tag=tag)}"
            )
    return reasons


def _why_not(rule: GateRule, measured: Identification, gate: Gate) -> str | None:
    each = rule.across in (None, "worst") and rule.margin is None
    if rule.metric == "invalid" and each and measured["wrong"]["low"] > rule.threshold:
        return f"{_share(measured['wrong'], 'least')} of its clean prompts are taken for another language"
    if rule.metric not in ABOUT_LANGUAGE:
        return None
    if measured["told"]["high"] < gate.minimum_told:
        unknown = "" if measured["known"] else "no identifier knows it; "
        return (
            f"{unknown}the language of {_share(measured['told'], 'most')} of its clean prompts can be told, and"
            f" gate.minimum_told asks for {percent(gate.minimum_told)}"
        )
    right = measured.get("right")
    if gate.correct_fidelity and rule.name == "fidelity":
        wrong = measured.get("other_taken_for_it")
        if right is None or wrong is None or right["value"] <= wrong["value"]:
            return "identification is no better than chance on its clean prompts, so that nothing can be corrected"
    elif each and right is not None and right["high"] < rule.threshold:
        return f"{_share(right, 'most')} of its clean prompts are recognised, and {percent(rule.threshold)} are needed"
    return None


def _share(estimate: Estimate, side: str) -> str:
    bound = estimate["high"] if side == "most" else estimate["low"]
    return f"{percent(estimate['value'])} (at {side} {percent(bound)})"


def lines(found: Mapping[str, Identification]) -> list[str]:
    """What identification does on the clean prompts, for a terminal: a line for each language where it errs."""
    imperfect = {tag: each for tag, each in found.items() if each["told"]["value"] < 1 or each["wrong"]["value"]}
    always = len(found) - len(imperfect)
    return [
        f"language identification on the clean prompts: always right in {always} of {len(found)} languages",
        *(
            f"  {language_name(tag)}, {each['told']['n']} prompts: right {_of_all(each)}, wrong"
            f" {percent(each['wrong']['value'])}, cannot say {percent(1 - each['told']['value'])}"
            for tag, each in imperfect.items()
        ),
    ]


def _of_all(measured: Identification) -> str:
    return percent(measured["told"]["value"] - measured["wrong"]["value"])


def identification_of(samples: pd.DataFrame, languages: Languages) -> dict[str, Identification]:
    """Identification on the clean prompts that these are samples of."""
    prompts = samples[["language", "prompt"]].drop_duplicates()
    texts = {tag: list(prompts["prompt"][prompts["language"] == tag]) for tag in prompts["language"].unique()}
    return identification.measured(texts, _identified(languages), LanguageCheck.of(languages), others=True)


def _identified(languages: Languages) -> list[str]:
    return [tag for tag in languages.served if tag not in languages.unidentified]


def corrected_fidelity(measured: Measured, errors: Identification | None, alpha: float) -> Measured:
    """A fidelity as it would be without identification's errors, whose uncertainty widens it."""
    if measured.problem is not None or measured.hits is None:
        return measured
    try:
        if errors is None:
            raise KeyError
        right, wrong = errors["right"], errors["other_taken_for_it"]
        rate = Estimate(n=measured.n, value=measured.hits / measured.n, low=0.0, high=1.0)
        corrected = rogan_gladen(rate, right, complement(wrong), 1 - 2 * alpha)
    except (KeyError, ValueError):
        return Measured(
            measured.n, problem="identification's errors are not known here, or make it no better than chance"
        )
    method = "corrected for identification's errors (Rogan-Gladen)"
    return measured._replace(value=corrected["value"], bound=corrected["low"], method=method)
