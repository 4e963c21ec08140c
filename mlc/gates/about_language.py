"""Rules about the language of replies: where they are judged, and whether enough can be said for one."""

from __future__ import annotations

import pandas as pd

from mlc.evaluation.rates import AGREEMENTS, RATES, counted
from mlc.evaluation.statistics import lower_bound
from mlc.languages.tags import language_name
from mlc.settings import Gate, GateRule, Languages
from mlc.text import percent

# Rates about the language of replies: of those of which it cannot be told, they say nothing.
ABOUT_LANGUAGE = frozenset({"fidelity", "refusal_fidelity"})
WHERE_UNKNOWN = (
    "name an identifier that knows the language in languages.identification_model, or add {tag} to"
    " languages.unidentified: the language of its replies is then not judged (docs/languages.md)"
)


def untold(samples: pd.DataFrame, rate: str, alpha: float, minimum_told: float) -> str | None:
    """Why a rate about the language of replies cannot be judged in a language: it can be told of too few of them."""
    n, told = int((samples["intent"] == RATES[rate][0]).sum()), len(counted(samples, rate))
    if told == n:
        return None
    bound = lower_bound(told, n, alpha)
    if told and bound >= minimum_told:
        return None
    tag = samples["language"].iloc[0]
    return (
        f"the language of {told} of {n} replies can be told (bound {percent(bound)}), and"
        f" gate.minimum_told asks for {percent(minimum_told)}: {WHERE_UNKNOWN.format(tag=tag)}"
    )


def judged_in(rule: GateRule, languages: Languages) -> list[str]:
    """The served languages that a rule is about: one on the language of replies not where it is not identified."""
    about_language = AGREEMENTS.get(rule.metric, rule.metric) in ABOUT_LANGUAGE
    return [tag for tag in languages.served if not (about_language and tag in languages.unidentified)]


def notes_on(candidate: pd.DataFrame, languages: Languages, gate: Gate) -> list[str]:
    """Where the language of replies is not judged, and of how many it could not be told, in words."""
    rules = [rule.name for rule in gate.rules if rule.metric in ABOUT_LANGUAGE]
    notes = []
    unidentified = [tag for tag in languages.served if tag in languages.unidentified]
    if unidentified:
        named = ", ".join(map(language_name, unidentified))
        notes.append(f"the language of replies is not judged in {named} (languages.unidentified)")
    if "in_language" in candidate and rules:
        asked = candidate[candidate["language"].isin(set(languages.served) - set(unidentified))]
        asked = asked[asked["intent"] == "benign"]
        unknown = int((asked["in_language"] == "cannot say").sum())
        if unknown:
            notes.append(
                f"the language of {unknown} of {len(asked)} replies to benign prompts could not be told: fidelity is"
                " about the others"
            )
    return notes
