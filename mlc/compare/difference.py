"""``mlc compare A B``: what changed between two versions, revisions or experiments, and how sure that is.

Everything is read from what each side left: its settings, the hash of its prompts, its verdict, and its sample lines,
from which every difference is computed again, paired on the prompts that both were asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mlc.compare.snapshot import Side, side
from mlc.evaluation.statistics import paired_mean, paired_tests
from mlc.gates.explain import table
from mlc.gates.paired import outcomes
from mlc.gates.rules import shown, title
from mlc.languages.tags import language_name
from mlc.paths import Paths
from mlc.settings import HIGHER_IS_BETTER
from mlc.text import markdown as plain
from mlc.text import visible

RATES = ("safe_rate", "over_refusal", "fidelity", "invalid")
ALPHA = 0.025  # of each side of an interval
SURE = 0.05  # p, corrected over the languages, below which a change is more than chance
SAME = ["prompt_id", "language", "intent", "prompt"]  # what makes two samples answers to one prompt


def _params(a: Side, b: Side) -> list[dict[str, Any]]:
    keys = [*a.params, *(key for key in b.params if key not in a.params)]
    both = ((key, a.params.get(key), b.params.get(key)) for key in keys)
    return [{"key": key, "a": old, "b": new} for key, old, new in both if old != new]


def _verdict(side: Side) -> dict[str, Any] | None:
    return {key: side.verdict[key] for key in ("passed", "failed")} if side.verdict else None


def _rules(a: Side, b: Side) -> list[dict[str, Any]]:
    """The rules that one side passes and the other does not, or does not have."""
    of = [{(r["rule"], r["language"]): r["passed"] for r in s.verdict["rules"]} if s.verdict else {} for s in (a, b)]
    keys = [*of[0], *(key for key in of[1] if key not in of[0])]
    found = [{"rule": key[0], "language": key[1], "a": of[0].get(key), "b": of[1].get(key)} for key in keys]
    return [rule for rule in found if rule["a"] != rule["b"]] if all(of) else []


def _rates(a: pd.DataFrame, b: pd.DataFrame) -> list[dict[str, Any]]:
    """Each rate in each language on both sides, and B less A with its 95 % interval, on the prompts of both."""
    found: list[dict[str, Any]] = []
    for rate in RATES:
        rows: list[dict[str, Any]] = []
        for tag in dict.fromkeys(a["language"]):
            before, after = (outcomes(s[s["language"] == tag], rate, pessimistic=False) for s in (a, b))
            if before.empty:
                continue
            change = (after - before).to_numpy(dtype=np.float64)
            mean = paired_mean(change, ALPHA)
            good = change if rate in HIGHER_IS_BETTER else -change
            rows.append(
                {
                    "rate": rate,
                    "language": tag,
                    "n": len(change),
                    "a": float(before.mean()),
                    "b": float(after.mean()),
                    "difference": mean.value,
                    "low": mean.low,
                    "high": mean.high,
                    "better": int((good > 0).sum()),
                    "worse": int((good < 0).sum()),
                }
            )
        corrected = paired_tests([(row["better"], row["worse"]) for row in rows])[1]
        found += [{**row, "p_holm": float(p), "sure": bool(p < SURE)} for row, p in zip(rows, corrected, strict=True)]
    return found


def compare(before: str, after: str, registered: str, paths: Paths) -> dict[str, Any]:
    """What changed between two sides, by their names. ``registered`` is the registered model's name.

    Raises:
        MlcError: a side does not exist, or what it left cannot be read.
    """
    return between(side(before, registered, paths), side(after, registered, paths))


def between(a: Side, b: Side) -> dict[str, Any]:
    """What changed from one side to the other, ready for JSON.

    ``rates`` are on the prompts that both were asked, in the same words: ``prompts`` says how many those are.
    Differences are B less A, with 95 % intervals (bootstrap over prompts), ``p_holm`` by McNemar's exact test,
    corrected over the languages of a rate.
    """
    found: dict[str, Any] = {
        "a": {"name": a.name, "commit": a.commit, "data": a.data, "verdict": _verdict(a)},
        "b": {"name": b.name, "commit": b.commit, "data": b.data, "verdict": _verdict(b)},
        "params": _params(a, b),
        "rules": _rules(a, b),
        "prompts": None,
        "rates": [],
        "notes": [f"{s.name} has no evaluation of a candidate" for s in (a, b) if s.samples is None],
    }
    if a.samples is None or b.samples is None:
        return found
    keys = [pd.MultiIndex.from_frame(s.samples[SAME]) for s in (a, b) if s.samples is not None]
    asked = [a.samples[keys[0].isin(keys[1])], b.samples[keys[1].isin(keys[0])]]
    shared = len(asked[0])
    found["prompts"] = {"both": shared, "only_a": len(a.samples) - shared, "only_b": len(b.samples) - shared}
    found["rates"] = _rates(*asked) if shared else []
    judges = [sorted(set(s["judge"] + " " + s["judge_version"])) for s in asked]
    if judges[0] != judges[1]:
        found["notes"].append(f"not the same judge: {', '.join(judges[0])}, then {', '.join(judges[1])}")
    return found


def _verdict_words(verdict: Mapping[str, Any] | None) -> str:
    if verdict is None:
        return "not judged"
    failed = len(verdict["failed"])
    return "passes" if verdict["passed"] else f"fails {failed} rule{'' if failed == 1 else 's'}"


def value_words(value: Any) -> str:
    """A setting's value, or a dash where a side does not have it."""
    return "–" if value is None else json.dumps(value, ensure_ascii=False)


def heads(found: Mapping[str, Any]) -> list[str]:
    """What there is to say before any number: verdicts, data, how many prompts, and the notes."""
    a, b = found["a"], found["b"]
    same = "the same" if a["data"] == b["data"] else f"{(a['data'] or 'none')[:12]} -> {(b['data'] or 'none')[:12]}"
    lines = [f"verdict: {_verdict_words(a['verdict'])} -> {_verdict_words(b['verdict'])}", f"data: {same}"]
    if prompts := found["prompts"]:
        more = {found[key]["name"]: prompts[f"only_{key}"] for key in "ab"}
        only = "".join(f", {count} only of {name}" for name, count in more.items() if count)
        lines.append(f"prompts of both: {prompts['both']} in all languages{only}")
    return [*lines, *found["notes"]]


def _change(rate: Mapping[str, Any]) -> str:
    low, high = (f"{100 * rate[key]:+.1f}" for key in ("low", "high"))
    return f"{100 * rate['difference']:+.1f} [{low}, {high}]"


def judgement(rate: Mapping[str, Any]) -> str:
    """Whether a difference is more than chance, and which way."""
    if not rate["sure"]:
        return "no more than chance"
    return "better" if rate["better"] > rate["worse"] else "worse"


def rule_rows(found: Mapping[str, Any]) -> list[tuple[str, str, bool | None, bool | None]]:
    """Rule, language, and whether each side passes, of the rules whose result differs; None: it has no such rule."""
    return [(title(r["rule"]), _where(r), r["a"], r["b"]) for r in found["rules"]]


def words(found: Mapping[str, Any]) -> str:
    """The comparison for a terminal."""
    a, b = found["a"]["name"], found["b"]["name"]
    parts = ["\n".join(visible(line) for line in [f"{a} -> {b}", *heads(found)])]
    if found["params"]:
        rows = [
            [visible(p["key"]), visible(value_words(p["a"])), "->", visible(value_words(p["b"]))]
            for p in found["params"]
        ]
        parts.append("settings\n" + table(rows))
    else:
        parts.append("settings: the same")
    if found["rules"]:
        state = {True: "pass", False: "FAIL", None: "–"}
        rows = [[name, where, state[before], "->", state[after]] for name, where, before, after in rule_rows(found)]
        parts.append("rules of the gate\n" + table(rows))
    if found["rates"]:
        rows = [["", "language", "prompts", visible(a), visible(b), "points, 95 %", "by McNemar's test"]]
        for r in found["rates"]:
            values = [shown(r["rate"], r[key]) for key in "ab"]
            rows.append(
                [title(r["rate"]), _where(r), str(r["n"]), *values, _change(r), judgement(r).replace("worse", "WORSE")]
            )
        parts.append(table(rows))
    return "\n\n".join(parts)


def _where(line: Mapping[str, Any]) -> str:
    return language_name(line["language"]) if line["language"] else "all"


def markdown(found: Mapping[str, Any]) -> str:
    """The comparison as GitHub's Markdown: languages down, rates across, what is more than chance in bold."""
    a, b = plain(found["a"]["name"]), plain(found["b"]["name"])
    lines = [f"### {a} → {b}", "", *(f"- {plain(line)}" for line in heads(found))]
    failed = (found["b"]["verdict"] or {}).get("failed", [])
    lines += [f"  - {plain(sentence)}" for sentence in failed]
    if found["rates"]:
        rates = [rate for rate in RATES if any(r["rate"] == rate for r in found["rates"])]
        of = {(r["language"], r["rate"]): r for r in found["rates"]}
        lines += ["", f"| language | {' | '.join(map(title, rates))} |", f"|---|{'---|' * len(rates)}"]
        for tag in dict.fromkeys(r["language"] for r in found["rates"]):
            cells = [_cell(of.get((tag, rate))) for rate in rates]
            lines.append(f"| {plain(language_name(tag))} | {' | '.join(cells)} |")
        lines += [
            "",
            "B, and its points above A with a 95 % interval, on the same prompts. **Bold**: more than chance.",
        ]
    if found["params"]:
        lines += ["", "| setting | A | B |", "|---|---|---|"]
        lines += [
            f"| {plain(p['key'])} | {plain(value_words(p['a']))} | {plain(value_words(p['b']))} |"
            for p in found["params"]
        ]
    return "\n".join(lines)


def _cell(rate: Mapping[str, Any] | None) -> str:
    if rate is None:
        return "–"
    text = f"{shown(rate['rate'], rate['b'])} ({_change(rate)})"
    return f"**{text}**" if rate["sure"] else text
