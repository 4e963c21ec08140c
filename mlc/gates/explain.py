"""``mlc gate explain``: the verdict with every number that led to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlc.errors import MlcError
from mlc.files import read_json
from mlc.gates.rules import shown, title
from mlc.languages.tags import language_name
from mlc.paths import Paths
from mlc.text import visible

COLUMNS = ("", "rule", "language", "prompts", "value", "bound", "has to be", "alpha", "by")


def _cells(rule: Mapping[str, Any]) -> list[str]:
    def number(key: str) -> str:
        return "–" if rule[key] is None else shown(rule["rule"], rule[key])

    counted = f"{rule['hits']} of {rule['n']}" if rule["hits"] is not None else f"{rule['n']}"
    return [
        "pass" if rule["passed"] else "FAIL",
        title(rule["rule"]),
        language_name(rule["language"]) if rule["language"] else "all",
        counted,
        number("value"),
        number("bound"),
        f"{rule['comparison']} {shown(rule['rule'], rule['threshold'])}",
        "–" if rule["alpha"] is None else f"{rule['alpha']:.3g}",
        rule["method"] or "–",
    ]


def table(rows: list[list[str]]) -> str:
    """Rows as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _change(change: Mapping[str, Any]) -> list[str]:
    sure = "more than chance" if change["p_holm"] < 0.05 else "no more than chance"
    return [
        title(change["rate"]),
        language_name(change["language"]),
        f"{change['better']} better, {change['worse']} worse of {change['n']}",
        f"p {change['p']:.2g}, {change['p_holm']:.2g} over all languages: {sure}",
    ]


def show(language: str | None, paths: Paths, as_json: bool = False) -> None:
    """Prints the verdict's rules, the failed ones first, with what led to each, and what changed from the base.

    As JSON, it is the verdict, with the rules and changes of the language asked for.

    Raises:
        MlcError: there is no verdict, or it is not about the language asked for.
    """
    verdict = read_json(paths.verdict, "mlc gate")
    rules = [rule for rule in verdict["rules"] if language in (None, rule["language"])]
    if not rules:
        raise MlcError(f"{paths.verdict} has no rule about {language}: the gate judges the served languages")
    rules.sort(key=lambda rule: bool(rule["passed"]))
    changes = [change for change in verdict["changes"] if language in (None, change["language"])]
    if as_json:
        print(json.dumps(verdict | {"rules": rules, "changes": changes}, indent=2))
        return
    gate, languages = verdict["gate"], {rule["language"] for rule in verdict["rules"]} - {None}
    failed = sum(not rule["passed"] for rule in rules)
    outcome = "passes" if verdict["passed"] else "fails"
    print(f"{len(rules) - failed} of {len(rules)} rules passed: the candidate {outcome}")
    print(
        "A rule passes when its bound clears the threshold. The bounds of a rule hold together with a confidence of"
        f" {gate['confidence']:g}:\nalpha is {1 - gate['confidence']:.3g}, shared out among {len(languages)} languages"
        " where a rule is about each.\n"
    )
    if verdict.get("selection"):
        print(f"The candidate is {verdict['selection']['how']}.\n")
    print(table([list(COLUMNS), *map(_cells, rules)]))
    for rule in rules:
        if rule["reason"]:
            where = f" in {language_name(rule['language'])}" if rule["language"] else ""
            print(f"\n{title(rule['rule'])}{where}: {visible(rule['reason'])}", end="")
    print("\n\nFrom base to candidate, on the same prompts (McNemar's exact test, Holm's correction):")
    print(table(list(map(_change, changes))))
    for note in verdict["notes"]:
        print(note)
