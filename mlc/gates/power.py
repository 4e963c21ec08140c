"""Power: what the evaluation prompts there are can show, and how many a rule needs. Exact binomial, by scipy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from mlc.errors import MlcError
from mlc.evaluation.identification import Identification
from mlc.evaluation.rates import AGREEMENTS, RATES
from mlc.evaluation.statistics import Array, paired_mean
from mlc.files import write_json
from mlc.gates import identification
from mlc.gates.leakage import distinct_of_rows, near_duplicates
from mlc.languages.tags import language_name
from mlc.paths import Paths
from mlc.prompts.schema import PromptRow, read_prompts
from mlc.settings import Gate, GateRule, Languages
from mlc.text import percent

MOST = 20_000  # prompts per language; nobody translates more
POWERS = (0.8, 0.9)
# Of the room between the threshold and perfection, how much the true rate leaves: a good, a better, a perfect model.
ROOM = (0.5, 0.25, 0.1, 0.0)


def allowed_failures(n: npt.ArrayLike, limit: float, alpha: float) -> npt.NDArray[np.int64]:
    """With how many failures of n the exact bound of the failure rate still is within ``limit``; -1: not even none."""
    return np.asarray(binom.ppf(alpha, n, limit) - 1, dtype=np.int64)


def power(n: npt.ArrayLike, limit: float, alpha: float, failure_rate: float, languages: int = 1) -> Array:
    """How often a model of this true failure rate passes in all languages, if they were independent.

    Languages are not: a model that fails a prompt in one tends to fail it in others, and passes more often than this.
    """
    return np.asarray(binom.cdf(allowed_failures(n, limit, alpha), n, failure_rate) ** languages)


def prompts_needed(target: float, limit: float, alpha: float, failure_rate: float, languages: int = 1) -> int | None:
    """The fewest prompts per language from which on ``power`` stays at ``target``; None where ``MOST`` are too few."""
    n = np.arange(1, MOST + 1)
    enough = power(n, limit, alpha, failure_rate, languages) >= target
    if not enough[-1]:
        return None
    short = np.flatnonzero(~enough)
    return int(n[short[-1] + 1]) if len(short) else 1


class Sizes(NamedTuple):
    """Prompts of the set that the gate is given, per language: ``counts[language][intent]``, and references."""

    counts: Mapping[str, Mapping[str, int]]
    references: Mapping[str, int]

    def of(self, rule: GateRule, served: Sequence[str]) -> tuple[int, str]:
        """The fewest prompts that a rule has in a served language, and the language."""
        if rule.metric == "perplexity_ratio":
            by_language = {tag: self.references[tag] for tag in served}
        else:
            intent = RATES[AGREEMENTS.get(rule.metric, rule.metric)][0]
            by_language = {
                tag: self.counts[tag][intent] if intent else sum(self.counts[tag].values()) for tag in served
            }
        return min((n, tag) for tag, n in by_language.items())


def sizes(rows: Sequence[PromptRow], served: Sequence[str]) -> Sizes:
    counts = {
        tag: {
            intent: sum(row.intent == intent and tag in row.prompts for row in rows) for intent in ("harmful", "benign")
        }
        for tag in served
    }
    return Sizes(counts, {tag: sum(tag in row.references for row in rows) for tag in served})


def _about_prompts(gate: Gate) -> list[GateRule]:
    """The rules that need prompts: the harness has its own questions."""
    return [rule for rule in gate.rules if rule.metric != "task_accuracy"]


def _limit(rule: GateRule) -> float | None:
    """The failure rate that a rule allows, where it is about a rate in each language (or the worst)."""
    if rule.margin is not None or rule.metric in AGREEMENTS or rule.metric == "perplexity_ratio":
        return None
    if rule.across not in (None, "worst"):
        return None
    return 1 - rule.threshold if rule.comparison == "at least" else rule.threshold


def _alpha(rule: GateRule, gate: Gate, languages: int) -> float:
    """The level of one bound: shared out among the languages, save for a worst language (see ``worst_language``)."""
    return (1 - gate.confidence) / (1 if rule.across else languages)


def unattainable(set_sizes: Sizes, served: Sequence[str], gate: Gate) -> list[str]:
    """Why no candidate whatever can pass with these prompts, one sentence per rule."""
    reasons = []
    for rule in _about_prompts(gate):
        n, tag = set_sizes.of(rule, served)
        if rule.metric == "perplexity_ratio" and not any(set_sizes.references.values()):
            continue  # the gate does not judge it then, and says so
        alpha, limit = _alpha(rule, gate, len(served)), _limit(rule)
        where = f"{rule.name} has {n} prompts in {language_name(tag)}"
        if n < gate.minimum_prompts:
            reasons.append(f"{where}, gate.minimum_prompts asks for {gate.minimum_prompts}")
        elif limit is not None and allowed_failures(n, limit, alpha) < 0:
            needed = prompts_needed(1.0, limit, alpha, 0.0)
            enough = f"it takes {needed}" if needed else "no number of prompts is enough"
            reasons.append(f"{where}: even a faultless candidate fails {_condition(rule)} at this confidence, {enough}")
        elif rule.margin is not None and paired_mean(np.zeros(n), alpha).low < -rule.margin:
            reasons.append(f"{where}: even a candidate that changes nothing fails a margin of {rule.margin:g}")
    return reasons


def _copied(rows: Sequence[PromptRow], served: Sequence[str], gate: Gate) -> list[str]:
    """Why the gate will not take these prompts for so many different ones, if so."""
    distinct = distinct_of_rows(rows, served, gate.near_duplicate)
    result = near_duplicates(distinct, gate.near_duplicate, gate.minimum_prompts)
    return [] if result.passed else [result.sentence]


def _condition(rule: GateRule) -> str:
    return f"{rule.comparison} {rule.threshold:g}"


def check(languages: Languages, prompt_set: str, gate: Gate, paths: Paths, candidate_steps: int | None = None) -> None:
    """Writes ``artifacts/gate/attainable.json`` if some candidate could pass: what the plan stage does before training.

    Where several candidates are made (``candidate_steps``), the tuning prompts have to allow that too, as one is chosen
    on them. The file's content is always the same, so that a changed gate that still can be passed is no reason to
    train again.

    Raises:
        MlcError: no candidate could pass with these prompts, or where language identification errs on them too often;
            or the identifier that params.yaml names cannot be had.
    """
    for name in (prompt_set, *(["tuning"] if candidate_steps else [])):
        path = paths.prompts / f"{name}.jsonl"
        rows = read_prompts(path, made_by="mlc validate")
        reasons = unattainable(sizes(rows, languages.served), languages.served, gate)
        if name == prompt_set:
            reasons += _copied(rows, languages.served, gate)
            unidentified = identification.unattainable(identification.on_prompts(rows, languages, gate), gate)
        if reasons:
            instead = "" if name == prompt_set else ", or set train.candidate_steps to null: they choose the candidate"
            raise MlcError(
                f"no candidate can pass the gate with the prompts in {path}: {'; '.join(reasons)}; add prompts, or ask"
                f" for less in params.yaml (`mlc gate plan` shows what so many can show){instead}"
            )
        if name == prompt_set and unidentified:
            raise MlcError(f"no candidate can pass the gate: {'; '.join(unidentified)}")
    write_json(paths.verdict.parent / "attainable.json", {"attainable": True})
    print(f"plan: a candidate can pass all {len(gate.rules)} rules of the gate with these prompts")


class TrueRate(TypedDict):
    """``power`` is how often a model of this true rate in every language passes in all of them, were they independent;
    ``needed`` are the prompts for each of ``POWERS``, null where they are more than ``MOST``."""

    rate: float
    power: float
    needed: dict[str, int | None]


class PlannedRule(TypedDict):
    """What the ``prompts`` of the smallest language can show of a rule; ``alpha`` is the level of one bound.

    ``allowed_failures`` is null where none may fail and that is not enough.
    """

    rule: str
    comparison: Literal["at least", "at most"]
    threshold: float
    alpha: float
    prompts: int
    allowed_failures: int | None
    true_rates: list[TrueRate]


class PlannedMargin(TypedDict):
    """``margin`` is ``register.margin``, ``shown`` the least one that a candidate which changes nothing can show in so
    many prompts; ``attainable`` says whether that is enough."""

    margin: float
    prompts: int
    shown: float
    attainable: bool


class Plan(TypedDict):
    """What the prompts there are can show. ``unplanned`` are rules that are not about a share of prompts, each with its
    prompts in the smallest language; ``identification`` is how well the languages of the prompts are told;
    ``cannot_pass`` says why no candidate can pass, if so."""

    prompts: str
    languages: list[str]
    confidence: float
    rules: list[PlannedRule]
    unplanned: dict[str, int]
    margin: PlannedMargin
    identification: dict[str, Identification]
    cannot_pass: list[str]


def _planned(rule: GateRule, limit: float, n: int, gate: Gate, languages: int, rates: Sequence[float]) -> PlannedRule:
    """What n prompts can show of a rule, and how many it needs for each of these true failure rates."""
    alpha = _alpha(rule, gate, languages)
    return {
        "rule": rule.name,
        "comparison": rule.comparison,
        "threshold": rule.threshold,
        "alpha": alpha,
        "prompts": n,
        "allowed_failures": failures if (failures := int(allowed_failures(n, limit, alpha))) >= 0 else None,
        "true_rates": [
            {
                "rate": 1 - rate if rule.comparison == "at least" else rate,
                "power": float(power(n, limit, alpha, rate, languages)),
                "needed": {f"{target:.0%}": prompts_needed(target, limit, alpha, rate, languages) for target in POWERS},
            }
            for rate in rates
        ],
    }


def plan(
    languages: Languages, prompt_set: str, gate: Gate, margin: float, true_rate: float | None, paths: Paths
) -> Plan:
    """How many prompts per language each rule needs, and what those there are can show, ready for JSON.

    Raises:
        MlcError: the prompt set is missing or broken.
    """
    folder = next(p for p in (paths.prompts, paths.data) if (p / f"{prompt_set}.jsonl").exists() or p == paths.data)
    file = folder / f"{prompt_set}.jsonl"
    rows, served = read_prompts(file), languages.served
    set_sizes = sizes(rows, served)
    rules: list[PlannedRule] = []
    unplanned: dict[str, int] = {}
    for rule in _about_prompts(gate):
        limit, (n, _) = _limit(rule), set_sizes.of(rule, served)
        if limit is None:
            unplanned[rule.name] = n
            continue
        rates = [room * limit for room in ROOM]
        if true_rate is not None:
            rates = [1 - true_rate if rule.comparison == "at least" else true_rate]
        rules.append(_planned(rule, limit, n, gate, len(served), rates))
    n = min(count for tag in served for count in set_sizes.counts[tag].values())
    low = paired_mean(np.zeros(max(n, 1)), 1 - gate.confidence).low
    identified = identification.on_prompts(rows, languages, gate)
    return {
        "prompts": str(file),
        "languages": list(served),
        "confidence": gate.confidence,
        "rules": rules,
        "unplanned": unplanned,
        "margin": {"margin": margin, "prompts": n, "shown": -low, "attainable": bool(low >= -margin)},
        "identification": identified,
        "cannot_pass": [
            *unattainable(set_sizes, served, gate),
            *_copied(rows, served, gate),
            *identification.unattainable(identified, gate),
        ],
    }


def _rule_lines(rule: PlannedRule) -> Iterator[str]:
    most, n = rule["allowed_failures"], rule["prompts"]
    can = f"even none of {n} failing is not enough" if most is None else f"at most {most} of {n} may fail"
    limit = f"{rule['comparison']} {rule['threshold']:g}"
    yield f"{rule['rule']} {limit}, alpha {rule['alpha']:.4g} per language: {can}"
    for true in rule["true_rates"]:
        needed = ", ".join(
            f"{f'{k:,}' if k else f'over {MOST:,}'} for {target}" for target, k in true["needed"].items()
        )
        often = f"{percent(true['power']):>6} of the time"
        yield f"  true rate {true['rate']:<7.4g} passes everywhere {often}; needs {needed}"


def render_text(plan: Plan) -> str:
    """The plan for a terminal."""
    lines = [
        f"{plan['prompts']}, {len(plan['languages'])} served languages, confidence {plan['confidence']:g}",
        "power: how often a model of that true rate in every language passes in all of them, were they independent",
    ]
    for rule in plan["rules"]:
        lines += _rule_lines(rule)
    if plan["unplanned"]:
        names = ", ".join(f"{name} ({n})" for name, n in plan["unplanned"].items())
        lines.append(f"not a share of prompts, so not planned (prompts in the smallest language): {names}")
    if plan["identification"]:
        lines += identification.lines(plan["identification"])
    margin = plan["margin"]
    lines.append(
        f"register.margin {margin['margin']:g}: no change in {margin['prompts']} prompts is shown to be no worse by"
        f" {margin['shown']:.3g}: {'can' if margin['attainable'] else 'cannot'} be passed"
    )
    return "\n".join([*lines, *(f"CANNOT PASS: {reason}" for reason in plan["cannot_pass"])])
