"""Every rule of params.yaml on the candidate's samples, and what makes them unfit to be judged.

Bounds are one-sided. A rule on each served language has a level shared out among them (Bonferroni), so that
``gate.confidence`` holds for all its bounds together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import pandas as pd

from mlc.errors import MlcError
from mlc.evaluation.calibration import Calibration, JudgeErrors
from mlc.evaluation.metrics import Estimate
from mlc.evaluation.rates import AGREEMENTS, RATES, measure_across, only_thinking
from mlc.evaluation.statistics import complement, rogan_gladen
from mlc.files import sha256
from mlc.gates import leakage
from mlc.gates.about_language import ABOUT_LANGUAGE, judged_in, notes_on, untold
from mlc.gates.evidence import check_prompts, samples_of_model
from mlc.gates.identification import corrected_fidelity, identification_of
from mlc.gates.licences import found, licence_results
from mlc.gates.paired import changes, comparable, difference, perplexity_ratio, unique
from mlc.gates.rate_rules import rate_in_language
from mlc.gates.rules import Comparison, Measured, RuleResult, result
from mlc.gates.selection import Selection
from mlc.gates.tasks import task_results
from mlc.gates.verdict import Chosen, PromptCount, Verdict
from mlc.languages.tags import language_name
from mlc.models.manifest import Manifest
from mlc.paths import ROLES, Paths
from mlc.prompts.schema import PromptRow, read_prompts
from mlc.settings import Gate, GateRule, Judge, JudgeQuality, Languages

METHODS = {
    "mean": "exact at the effective number of prompts",
    "worst": "exact in each language",
    "gap": "paired by prompt, exact in each kind of change (MOVER)",
    "variance": "bootstrap over prompts",
}


def _of_language(rule: GateRule, base: pd.DataFrame, candidate: pd.DataFrame, alpha: float, gate: Gate) -> Measured:
    minimum = gate.minimum_prompts
    if rule.metric == "perplexity_ratio":
        return perplexity_ratio(base, candidate, alpha, minimum)
    if rule.margin is not None:
        if rule.metric in ABOUT_LANGUAGE and (problem := untold(candidate, rule.metric, alpha, gate.minimum_told)):
            return Measured(len(candidate), problem=problem)
        return difference(candidate, base, rule.metric, alpha, rule.comparison, minimum)
    return rate_in_language(candidate, rule.metric, rule.comparison, alpha, minimum, gate.minimum_told)


def _invalid_as_refusal(samples: pd.DataFrame) -> pd.DataFrame:
    """An unreadable reply to a benign prompt counts as a refusal, as in each language."""
    unreadable = (samples["intent"] == "benign") & (samples["verdict"] == "invalid")
    return samples.assign(verdict=samples["verdict"].mask(unreadable, "refused"))


def _across(rule: GateRule, candidate: pd.DataFrame, languages: Languages, gate: Gate) -> Measured:
    served, alpha = judged_in(rule, languages), 1 - gate.confidence
    if not served:
        return Measured(0, problem="languages.unidentified names every served language: take the rule out")
    rate = AGREEMENTS.get(rule.metric, rule.metric)
    seen = candidate[candidate["language"].isin(served)]
    if RATES[rate][0]:
        seen = seen[seen["intent"] == RATES[rate][0]]
    fewest = min((int((seen["language"] == tag).sum()) for tag in served), default=0)
    if fewest < gate.minimum_prompts:
        return Measured(fewest, problem=f"{fewest} prompts in a language, at least {gate.minimum_prompts} needed")
    if rate in ABOUT_LANGUAGE:
        for tag in served:
            if problem := untold(seen[seen["language"] == tag], rate, alpha / len(served), gate.minimum_told):
                return Measured(fewest, problem=f"in {language_name(tag)}, {problem}")
    measure = rule.across or "mean"
    source = languages.source if languages.source in served else served[0]
    arguments = (rule.metric, served, source, alpha, (measure,))
    n, measures = measure_across(candidate, *arguments)
    if measure not in measures:
        return Measured(n, problem="one language agrees with nothing")
    value, bounded = measures[measure].value, measures[measure]
    if rate == "over_refusal":
        bounded = measure_across(_invalid_as_refusal(candidate), *arguments)[1][measure]
    bound = bounded.low if rule.comparison == "at least" else bounded.high
    return Measured(n, value, bound, alpha=alpha, method=METHODS[measure])


def apply_rules(
    base: pd.DataFrame,
    candidate: pd.DataFrame,
    languages: Languages,
    gate: Gate,
    errors: Mapping[str, JudgeErrors] | None = None,
) -> tuple[list[RuleResult], list[str]]:
    """The result of every rule, and notes on what was not judged. Frames are ``read_samples``'.

    ``errors`` are the judge's by language, as in its calibration, where the safe rate has to be corrected for them.

    Raises:
        MlcError: a prompt has two samples in one language.
    """
    unique(base, "base samples")
    unique(candidate, "candidate samples")
    served = languages.served
    alpha = (1 - gate.confidence) / len(served)
    # Whether there are references is the prompt set's doing, so the base decides it: a candidate cannot lose its own.
    has_references = bool(base["reference_nll"].notna().any())
    about_samples = [rule for rule in gate.rules if rule.metric != "task_accuracy"]  # which has questions of its own
    applied = [rule for rule in about_samples if has_references or rule.metric != "perplexity_ratio"]
    everywhere = [rule for rule in applied if not rule.across and rule.metric not in AGREEMENTS]
    identified = identification_of(candidate, languages) if gate.correct_fidelity else {}
    results = comparable(candidate, base, served)
    for tag in served:
        before, after = (s[s["language"] == tag] for s in (base, candidate))
        for rule in (rule for rule in everywhere if tag in judged_in(rule, languages)):
            measured = _of_language(rule, before, after, alpha, gate)
            if errors is not None and rule.name == "safe_rate":
                measured = _corrected(measured, errors.get(tag), alpha)
            if gate.correct_fidelity and rule.name == "fidelity":
                measured = corrected_fidelity(measured, identified.get(tag), alpha)
            results.append(result(rule.name, tag, measured, rule.threshold, rule.comparison))
    for rule in applied:
        if rule not in everywhere:
            measured = _across(rule, candidate, languages, gate)
            results.append(result(rule.name, None, measured, rule.threshold, rule.comparison))
    notes = [*_cut_off(base, candidate), *_only_thinking(base, candidate), *notes_on(candidate, languages, gate)]
    if len(applied) < len(about_samples):
        notes.append(
            "perplexity is not judged: no reference reply was scored (none in the prompt set, or an endpoint's model)"
        )
    return results, notes


def _cut_off(base: pd.DataFrame, candidate: pd.DataFrame) -> list[str]:
    """How many replies were cut off, in words; nothing where none was, or nobody knows."""
    counts = {name: int(s["finished"].eq(False).sum()) for name, s in (("base", base), ("candidate", candidate))
              if "finished" in s}  # fmt: skip
    what = "were cut off before they ended (evaluate.max_new_tokens): none of them is safe or refused"
    return _counted(counts, len(base), what)


def _only_thinking(base: pd.DataFrame, candidate: pd.DataFrame) -> list[str]:
    """How many replies are thinking and nothing else, in words; nothing where none is."""
    counts = {name: int(only_thinking(s).sum()) for name, s in (("base", base), ("candidate", candidate))}
    what = "are thinking that led to no reply (evaluate.max_new_tokens): they are invalid"
    return _counted(counts, len(base), what)


def _counted(counts: Mapping[str, int], replies: int, what: str) -> list[str]:
    if not any(counts.values()):
        return []
    return [" and ".join(f"{count} of {replies} replies of the {name}" for name, count in counts.items()) + f" {what}"]


def calibration_errors(gate: Gate, paths: Paths) -> Mapping[str, JudgeErrors] | None:
    """The judge's errors by language, where the safe rate has to be corrected for them.

    Raises:
        MlcError: they are needed, and there is no calibration.
    """
    return Calibration.of(paths).languages if gate.judge and gate.judge.correct else None


def _corrected(measured: Measured, errors: JudgeErrors | None, alpha: float) -> Measured:
    """A safe rate as it would be without the judge's errors, whose uncertainty widens it."""
    if measured.problem is not None or measured.hits is None:
        return measured
    try:
        known = errors or JudgeErrors(n=0)
        sensitivity, specificity = complement(known["false_unsafe"]), complement(known["false_safe"])
        rate = Estimate(n=measured.n, value=measured.hits / measured.n, low=0.0, high=1.0)
        corrected = rogan_gladen(rate, sensitivity, specificity, 1 - 2 * alpha)
    except (KeyError, ValueError):
        return Measured(measured.n, problem="the judge's errors are not known here, or make it no better than chance")
    method = "corrected for the judge's errors (Rogan-Gladen)"
    return measured._replace(value=corrected["value"], bound=corrected["low"], method=method)


def judge_results(
    candidate: pd.DataFrame, served: Sequence[str], quality: JudgeQuality, calibration: Calibration
) -> list[RuleResult]:
    """Is the judge of these samples, on labelled replies in each served language, as good as demanded?

    The bound of its accuracy and of the unsafe replies that it calls safe has to clear, not the value.
    """
    known = set(zip(candidate["judge"], candidate["judge_version"], strict=True)) == {calibration.of_judge}
    other = None if known else f"the calibration is about judge {' '.join(calibration.of_judge)}: run `mlc judge check`"
    demanded: tuple[tuple[Literal["accuracy", "false_safe"], Literal["low", "high"], float, Comparison], ...] = (
        ("accuracy", "low", quality.minimum_accuracy, "at least"),
        ("false_safe", "high", quality.maximum_false_safe, "at most"),
    )
    results = []
    for tag in served:
        errors = calibration.languages.get(tag, JudgeErrors(n=0))
        for name, side, limit, comparison in demanded:
            estimate, measured = (
                errors.get(name),
                Measured(0, problem=other or f"the calibration has no {name} in this language"),
            )
            if known and estimate is not None:
                measured = Measured(estimate["n"], estimate["value"], estimate[side], alpha=0.025, method="exact")
            results.append(result(f"judge_{name}", tag, measured, limit, comparison))
    return results


def _training_prompts(manifest: Manifest, paths: Paths) -> list[PromptRow]:
    path = paths.prompts / "alignment.jsonl"
    rows = read_prompts(path, made_by="mlc validate")
    if manifest.data.prompts != sha256(path):
        raise MlcError(f"{paths.model} was not trained on {path} as it is: run `mlc train` again")
    return rows


def _selection(manifest: Manifest, paths: Paths) -> tuple[Chosen | None, list[PromptRow]]:
    """Which of several candidates this is, and why; and the prompts that it was chosen on. None for the only one.

    Raises:
        MlcError: the record of the choice is missing, or is about another model or other prompts.
    """
    if manifest.parameters.train.get("candidate_steps") is None:
        return None, []
    prompts = paths.prompts / "tuning.jsonl"
    selection = Selection.of(paths)
    if selection.manifest != manifest.digest or selection.prompts not in (None, sha256(prompts)):
        raise MlcError(
            f"{paths.selection_record} is about another model than {paths.model}, or other prompts: run `mlc select`"
            " again"
        )
    return Chosen(step=selection.step, how=selection.how), read_prompts(prompts, made_by="mlc validate")


def verdict_on(languages: Languages, prompt_set: str, gate: Gate, judges: Sequence[Judge], paths: Paths) -> Verdict:
    """The verdict on the candidate; ``judges`` are those of the settings, whose licences count.

    Raises:
        MlcError: samples, prompts or the model's manifest are missing or broken, or the samples are another model's,
            of other prompts, or the model was trained on others, or chosen on others than those it is said to be.
    """
    base, candidate = (
        samples_of_model(paths.samples(role), paths.weights(role), f"mlc evaluate {role}") for role in ROLES
    )
    manifest = Manifest.of(paths.model)
    prompts = paths.prompts / f"{prompt_set}.jsonl"
    commands = "`mlc evaluate base` and `mlc evaluate candidate`"
    check_prompts(candidate, paths.evaluation("candidate"), prompts, languages.served, commands)
    chosen, chosen_on = _selection(manifest, paths)
    rules, notes = apply_rules(base, candidate, languages, gate, calibration_errors(gate, paths))
    rules.append(leakage.check(candidate, _training_prompts(manifest, paths), gate.near_duplicate))
    distinct = leakage.distinct_of_samples(candidate, languages.served, gate.near_duplicate)
    rules.append(leakage.near_duplicates(distinct, gate.near_duplicate, gate.minimum_prompts))
    if chosen is not None:
        rules.append(leakage.check(candidate, chosen_on, gate.near_duplicate, "selection"))
    rules += task_results(gate, languages.served, paths)
    if gate.judge is not None:
        rules += judge_results(candidate, languages.served, gate.judge, Calibration.of(paths))
    licences = found(manifest.base.model, judges, prompt_set, paths)
    rules += licence_results(licences, gate)
    failed = [rule.sentence for rule in rules if not rule.passed]
    return Verdict(
        schema_version=Verdict.VERSION,
        passed=not failed,
        manifest=manifest.digest,
        samples={role: sha256(paths.samples(role)) for role in ROLES},
        gate=gate.model_dump(mode="json"),
        selection=chosen,
        rules=rules,
        changes=changes(base, candidate, languages.served),
        failed=failed,
        notes=notes,
        unsafe_settings=list(gate.unsafe_settings),
        prompts={intent: PromptCount(prompts=d.prompts, distinct=d.distinct) for intent, d in distinct.items()},
        licences=licences,
    )
