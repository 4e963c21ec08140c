"""``mlc gate explain``: the verdict with every number that led to it."""

from __future__ import annotations

import json

from mlc.errors import MlcError
from mlc.gates.rules import RuleResult
from mlc.gates.verdict import MADE_BY, Change, Verdict
from mlc.languages.tags import language_name
from mlc.paths import Paths
from mlc.text import MISSING, table, title, visible

COLUMNS = ("", "rule", "language", "prompts", "value", "bound", "has to be", "alpha", "by")


def _cells(result: RuleResult) -> list[str]:
    return [
        "pass" if result.passed else "FAIL",
        title(result.rule),
        result.where,
        f"{result.hits} of {result.n}" if result.hits is not None else f"{result.n}",
        result.value_text,
        result.bound_text,
        result.limit,
        MISSING if result.alpha is None else f"{result.alpha:.3g}",
        result.method or MISSING,
    ]


def _change(change: Change) -> list[str]:
    return [
        title(change.rate),
        language_name(change.language),
        f"{change.better} better, {change.worse} worse of {change.n}",
        f"p {change.p:.2g}, {change.p_holm:.2g} over all languages: {'' if change.sure else 'no '}more than chance",
    ]


def show(language: str | None, paths: Paths, as_json: bool = False) -> None:
    """Prints the verdict's rules, the failed ones first, with what led to each, and what changed from the base.

    As JSON, it is the verdict, with the rules and changes of the language asked for.

    Raises:
        MlcError: there is no verdict, or it is not about the language asked for.
    """
    verdict = Verdict.read(paths.verdict, MADE_BY)
    results = [result for result in verdict.rules if language in (None, result.language)]
    if not results:
        raise MlcError(f"{paths.verdict} has no rule about {language}: the gate judges the served languages")
    results.sort(key=lambda result: result.passed)
    changes = [change for change in verdict.changes if language in (None, change.language)]
    if as_json:
        print(json.dumps(verdict.model_copy(update={"rules": results, "changes": changes}).content(), indent=2))
        return
    failed = sum(not result.passed for result in results)
    outcome = "passes" if verdict.passed else "fails"
    print(f"{len(results) - failed} of {len(results)} rules passed: the candidate {outcome}")
    print(
        "A rule passes when its bound clears the threshold. The bounds of a rule hold together with a confidence of"
        f" {verdict.confidence:g}:\nalpha is {1 - verdict.confidence:.3g}, shared out among"
        f" {len(verdict.languages)} languages where a rule is about each.\n"
    )
    if verdict.selection:
        print(f"The candidate is {verdict.selection.how}.\n")
    print(table([list(COLUMNS), *map(_cells, results)]))
    for result in results:
        if result.reason:
            where = f" in {result.where}" if result.language else ""
            print(f"\n{title(result.rule)}{where}: {visible(result.reason)}", end="")
    print("\n\nFrom base to candidate, on the same prompts (McNemar's exact test, Holm's correction):")
    print(table(list(map(_change, changes))))
    for remark in verdict.remarks:
        print(visible(remark))
