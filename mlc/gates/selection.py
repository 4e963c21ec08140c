"""The select stage: of several candidates the one that does best by the gate's own rules, on the tuning prompts.

The rule: among those that pass every rule, the highest bound of the worst language's safe rate; then the lower
over-refusal; then the earlier step. Where none passes, the one that fails the fewest rules, and likewise. What the
choice is worth is then shown on the evaluation prompts, which had no part in it, by the gate as it is.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import pandas as pd

from mlc.errors import MlcError
from mlc.evaluation.metrics import perplexity
from mlc.evaluation.samples import read_samples
from mlc.files import link_folder, replacing, sha256, write_json
from mlc.gates.paired import outcomes
from mlc.gates.rules import Rule, sentence
from mlc.gates.stage import calibration_errors, check_prompts, judge
from mlc.models import manifest
from mlc.paths import Paths, candidate_name
from mlc.settings import Gate, Languages

COLUMNS = ("step", "rules_failed", "safe_rate_worst", "safe_rate_worst_bound", "over_refusal", "perplexity")


class Judged(TypedDict):
    """A candidate on the tuning prompts, in the served languages.

    ``safe_rate_worst`` and its bound are of the language with the lowest, as the gate has them, null where it has
    none; ``over_refusal`` is the mean over languages; ``perplexity`` is of the reference replies, null without any.
    ``failed`` says which rules failed, and why.
    """

    step: int
    rules_failed: int
    safe_rate_worst: float | None
    safe_rate_worst_bound: float | None
    over_refusal: float | None
    perplexity: float | None
    failed: list[str]


def _lowest(rules: Sequence[Rule], number: str) -> float | None:
    numbers = [rule[number] for rule in rules if rule["rule"] in ("safe_rate", "safe_rate_worst")]  # type: ignore[literal-required]
    return None if None in numbers else min(numbers)


def measure(
    step: int,
    base: pd.DataFrame,
    candidate: pd.DataFrame,
    languages: Languages,
    gate: Gate,
    errors: Mapping[str, Mapping[str, Any]] | None = None,
) -> Judged:
    """The gate's rules on a candidate's samples, and what candidates are ranked by; arguments as for ``judge``."""
    rules, _ = judge(base, candidate, languages, gate, errors)
    failed = [sentence(rule) for rule in rules if not rule["passed"]]
    seen = candidate[candidate["language"].isin(languages.served)]
    refused = [float(outcomes(seen[seen["language"] == tag], "over_refusal").mean()) for tag in languages.served]
    over_refusal = sum(refused) / len(refused)
    estimate = perplexity(seen)
    return Judged(
        step=step,
        rules_failed=len(failed),
        safe_rate_worst=_lowest(rules, "value"),
        safe_rate_worst_bound=_lowest(rules, "bound"),
        over_refusal=over_refusal if math.isfinite(over_refusal) else None,
        perplexity=estimate["value"] if estimate and math.isfinite(estimate["value"]) else None,
        failed=failed,
    )


def best(candidates: Sequence[Judged]) -> Judged:
    """The one to take. What could not be measured ranks last."""

    def rank(candidate: Judged) -> tuple[int, float, float, int]:
        bound, refused = candidate["safe_rate_worst_bound"], candidate["over_refusal"]
        return (
            candidate["rules_failed"],
            math.inf if bound is None else -bound,
            math.inf if refused is None else refused,
            candidate["step"],
        )

    return min(candidates, key=rank)


def _how(chosen: Judged, candidates: Sequence[Judged]) -> str:
    """In words why this one was taken."""
    passing = sum(not candidate["rules_failed"] for candidate in candidates)
    if passing:
        return (
            f"step {chosen['step']}: the highest bound of the worst language's safe rate among the {passing} of"
            f" {len(candidates)} candidates that pass every rule on the tuning prompts"
        )
    return (
        f"step {chosen['step']}: none of {len(candidates)} candidates passes every rule on the tuning prompts, and it"
        f" fails the fewest, {chosen['rules_failed']}"
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
    candidates: list[Judged] = []
    prompts = paths.prompts / "tuning.jsonl"
    chosen, how = steps[-1], f"step {steps[-1]}: the only candidate"
    if len(steps) > 1:
        errors = calibration_errors(gate, paths)
        base = read_samples(paths.tuning / "base.jsonl", made_by="mlc evaluate tuning")
        for step in steps:
            samples = _samples_of(step, paths)
            check_prompts(samples, paths.tuning, prompts, languages.served, "`mlc evaluate tuning`")
            candidates.append(measure(step, base, samples, languages, gate, errors))
        taken = best(candidates)
        chosen, how = taken["step"], _how(taken, candidates)
        for candidate in candidates:
            print(_line(candidate))
        if taken["rules_failed"]:
            print("NO CANDIDATE PASSES on the tuning prompts; the gate decides about the one that comes closest:")
            print("\n".join(f"  {reason}" for reason in taken["failed"]))
    link_folder(paths.candidate(chosen), paths.model)
    with replacing(paths.selection / "candidates.csv") as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(candidates)
    selection = {
        "step": chosen,
        "how": how,
        "manifest": manifest.digest(manifest.read(paths.model)),
        "prompts": sha256(prompts) if candidates else None,
        "candidates": {candidate_name(candidate["step"]): candidate for candidate in candidates},
    }
    write_json(paths.selection / "metrics.json", selection)
    print(f"select: {how}")


def _samples_of(step: int, paths: Paths) -> pd.DataFrame:
    folder = paths.candidate(step)
    path = paths.tuning / f"{folder.name}.jsonl"
    samples = read_samples(path, made_by="mlc evaluate tuning")
    if set(samples["model"]) != {manifest.weights_id(folder)}:
        raise MlcError(f"{path} was not made with the model in {folder}: run `mlc evaluate tuning`")
    return samples


def _line(candidate: Judged) -> str:
    def shown(share: float | None) -> str:
        return "-" if share is None else f"{share:.1%}"

    return (
        f"step {candidate['step']}: {candidate['rules_failed']} rules failed, safe rate in the worst language"
        f" {shown(candidate['safe_rate_worst'])} (bound {shown(candidate['safe_rate_worst_bound'])}),"
        f" over-refusal {shown(candidate['over_refusal'])}"
    )
