"""Task accuracy in the gate: on the same questions, is the candidate no worse than the base by more than a margin?"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pandas as pd

from mlc.errors import MlcError
from mlc.evaluation.statistics import difference_bounds
from mlc.gates.rules import Measured, RuleResult, result
from mlc.models.weights import weights_id
from mlc.paths import ROLES, Paths
from mlc.settings import Gate

METHOD = "paired by question, exact in each kind of change (MOVER)"


def _difference(base: pd.Series[bool], candidate: pd.Series[bool], alpha: float, minimum: int) -> Measured:
    n = len(candidate)
    if not base.index.equals(candidate.index):
        return Measured(n, problem="base and candidate were not asked the same questions")
    if n < minimum:
        return Measured(n, problem=f"{n} questions of a task, at least {minimum} needed")
    more, fewer = np.sum(candidate & ~base), np.sum(~candidate & base)
    low, _ = difference_bounds(more, fewer, n, alpha)
    return Measured(n, float((more - fewer) / n), float(low), alpha=alpha, method=METHOD)


def task_results(gate: Gate, served: Sequence[str], paths: Paths) -> list[RuleResult]:
    """The results of a rule on ``task_accuracy``, if there is one: a served language without a task fails it.

    Raises:
        MlcError: there are no answers, or they are another model's.
    """
    rule = next((rule for rule in gate.rules if rule.metric == "task_accuracy"), None)
    if rule is None:
        return []
    path = paths.tasks / "answers.jsonl"
    try:
        rows = [json.loads(row) for row in path.read_text(encoding="utf-8").splitlines()]
        answers = pd.DataFrame(rows, columns=["model", "role", "language", "task", "question", "right"])
    except (FileNotFoundError, ValueError):
        raise MlcError(f"{path} is missing or broken: run `mlc tasks` again") from None
    for role in ROLES:
        if set(answers.loc[answers["role"] == role, "model"]) != {weights_id(paths.weights(role))}:
            raise MlcError(f"{path} does not hold the answers of the model in {paths.weights(role)}: run `mlc tasks`")
    alpha = (1 - gate.confidence) / len(served)
    results = []
    for tag in served:
        of = answers[answers["language"] == tag]
        base, candidate = (
            of[of["role"] == role].set_index(["task", "question"])["right"].astype(bool).sort_index() for role in ROLES
        )
        measured = _difference(base, candidate, alpha, gate.minimum_prompts)
        results.append(result(rule.name, tag, measured, rule.threshold, rule.comparison))
    return results
