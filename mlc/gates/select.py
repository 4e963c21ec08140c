"""The select stage: of several candidates the one that does best by the gate's own rules, on the tuning prompts.

The rule: among those that pass every rule, the highest bound of the worst language's safe rate; then the lower
over-refusal; then the earlier step. Where none passes, the one that fails the fewest rules, and likewise. What the
choice is worth is then shown on the evaluation prompts, which had no part in it, by the gate as it is.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence

import pandas as pd

from mlc.evaluation.calibration import JudgeErrors
from mlc.evaluation.rates import perplexity
from mlc.evaluation.samples import read_samples
from mlc.files import link_folder, replacing, sha256
from mlc.gates.apply_rules import apply_rules, calibration_errors
from mlc.gates.evidence import check_prompts, samples_of_model
from mlc.gates.paired import outcomes
from mlc.gates.selection import CandidateScore, Selection
from mlc.models.manifest import Manifest
from mlc.paths import Paths, candidate_name
from mlc.settings import Gate, Languages
from mlc.text import percent

MADE_BY = "mlc evaluate tuning"
COLUMNS = ("step", "rules_failed", "safe_rate_worst", "safe_rate_worst_bound", "over_refusal", "perplexity")


def _lowest(numbers: Sequence[float | None]) -> float | None:
    """The lowest; None where one is not known."""
    known = [number for number in numbers if number is not None]
    return min(known) if known and len(known) == len(numbers) else None


def score_candidate(
    step: int,
    base: pd.DataFrame,
    candidate: pd.DataFrame,
    languages: Languages,
    gate: Gate,
    errors: Mapping[str, JudgeErrors] | None = None,
) -> CandidateScore:
    """The gate's rules on a candidate's samples, and what candidates are ranked by. Arguments: ``apply_rules``'."""
    results, _ = apply_rules(base, candidate, languages, gate, errors)
    failed = [result.sentence for result in results if not result.passed]
    safe = [result for result in results if result.rule in ("safe_rate", "safe_rate_worst")]
    seen = candidate[candidate["language"].isin(languages.served)]
    refusals = [float(outcomes(seen[seen["language"] == tag], "over_refusal").mean()) for tag in languages.served]
    over_refusal = sum(refusals) / len(refusals)
    estimate = perplexity(seen)
    return CandidateScore(
        step=step,
        rules_failed=len(failed),
        safe_rate_worst=_lowest([result.value for result in safe]),
        safe_rate_worst_bound=_lowest([result.bound for result in safe]),
        over_refusal=over_refusal if math.isfinite(over_refusal) else None,
        perplexity=estimate["value"] if estimate and math.isfinite(estimate["value"]) else None,
        failed=failed,
    )


def best(candidates: Sequence[CandidateScore]) -> CandidateScore:
    """The one to take. What could not be measured ranks last."""

    def rank(candidate: CandidateScore) -> tuple[int, float, float, int]:
        bound, refusal = candidate.safe_rate_worst_bound, candidate.over_refusal
        return (
            candidate.rules_failed,
            math.inf if bound is None else -bound,
            math.inf if refusal is None else refusal,
            candidate.step,
        )

    return min(candidates, key=rank)


def _how(chosen: CandidateScore, candidates: Sequence[CandidateScore]) -> str:
    """In words why this one was taken."""
    passing = sum(not candidate.rules_failed for candidate in candidates)
    if passing:
        return (
            f"step {chosen.step}: the highest bound of the worst language's safe rate among the {passing} of"
            f" {len(candidates)} candidates that pass every rule on the tuning prompts"
        )
    return (
        f"step {chosen.step}: none of {len(candidates)} candidates passes every rule on the tuning prompts, and it"
        f" fails the fewest, {chosen.rules_failed}"
    )


def run(languages: Languages, gate: Gate, paths: Paths) -> None:
    """Puts the chosen candidate into ``artifacts/model``, and why into ``artifacts/selection``.

    Where none passes, one is taken all the same: the tuning prompts decide nothing but which, and the gate says on the
    evaluation prompts whether it is good enough.

    Raises:
        MlcError: there is no candidate; or there are several, and their samples are missing, or are of other models
            or prompts.
    """
    steps = paths.candidate_steps()
    candidates: list[CandidateScore] = []
    prompts = paths.prompts / "tuning.jsonl"
    step, how = steps[-1], f"step {steps[-1]}: the only candidate"
    if len(steps) > 1:
        errors = calibration_errors(gate, paths)
        base = read_samples(paths.tuning / "base.jsonl", made_by=MADE_BY)
        for each in steps:
            folder = paths.candidate(each)
            samples = samples_of_model(paths.tuning / f"{folder.name}.jsonl", folder, MADE_BY)
            check_prompts(samples, paths.tuning, prompts, languages.served, f"`{MADE_BY}`")
            candidates.append(score_candidate(each, base, samples, languages, gate, errors))
        chosen = best(candidates)
        step, how = chosen.step, _how(chosen, candidates)
        for candidate in candidates:
            print(_summary(candidate))
        if chosen.rules_failed:
            print("NO CANDIDATE PASSES on the tuning prompts; the gate decides about the one that comes closest:")
            print("\n".join(f"  {reason}" for reason in chosen.failed))
    link_folder(paths.candidate(step), paths.model)
    with replacing(paths.selection / "candidates.csv") as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(candidate.model_dump() for candidate in candidates)
    Selection(
        schema_version=Selection.VERSION,
        step=step,
        how=how,
        manifest=Manifest.of(paths.model).digest,
        prompts=sha256(prompts) if candidates else None,
        candidates={candidate_name(candidate.step): candidate for candidate in candidates},
    ).write(paths.selection_record)
    print(f"select: {how}")


def _summary(candidate: CandidateScore) -> str:
    return (
        f"step {candidate.step}: {candidate.rules_failed} rules failed, safe rate in the worst language"
        f" {percent(candidate.safe_rate_worst)} (bound {percent(candidate.safe_rate_worst_bound)}),"
        f" over-refusal {percent(candidate.over_refusal)}"
    )
