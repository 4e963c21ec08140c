"""``mlc compare A B``: what changed between two versions, revisions or experiments, and how sure that is.

Everything is read from what each side left: its settings, the hash of its prompts, its verdict, and its sample lines,
from which every difference is computed again, paired on the prompts that both were asked.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
from pydantic import JsonValue

from mlc.compare.snapshot import Snapshot, snapshot
from mlc.evaluation.statistics import paired_mean, paired_tests
from mlc.files import JsonPart
from mlc.gates.paired import outcomes, told_in_both
from mlc.gates.verdict import SURE
from mlc.languages.tags import language_name
from mlc.paths import Paths
from mlc.settings import HIGHER_IS_BETTER
from mlc.text import HEADLINE_RATES, MISSING, percent, points, table, title, visible
from mlc.text import markdown as plain

ALPHA = 0.025  # of each side of an interval
SAME = ["prompt_id", "language", "intent", "prompt"]  # what makes two samples answers to one prompt


class SettingChange(JsonPart):
    """A setting, by its dotted name, that differs; null where a side does not have it."""

    key: str
    a: JsonValue
    b: JsonValue


class RuleChange(JsonPart):
    """A rule that one side passes and the other does not; null where a side has no such rule."""

    rule: str
    language: str | None
    a: bool | None
    b: bool | None

    @property
    def where(self) -> str:
        return language_name(self.language) if self.language else "all"


class RateChange(JsonPart):
    """A rate in a language on both sides, and B less A with its 95% interval, on the ``n`` prompts of both.

    ``better`` and ``worse`` count prompts; ``p_holm`` is by McNemar's exact test, corrected over the languages of the
    rate, and ``sure`` whether the change is more than chance.
    """

    rate: str
    language: str
    n: int
    a: float
    b: float
    difference: float
    low: float
    high: float
    better: int
    worse: int
    p_holm: float
    sure: bool

    @property
    def judgement(self) -> str:
        """Whether the difference is more than chance, and which way."""
        if not self.sure:
            return "no more than chance"
        return "better" if self.better > self.worse else "worse"

    @property
    def change(self) -> str:
        """``+2.1 [-0.4, +4.6]``, in points."""
        return f"{points(self.difference)} [{points(self.low)}, {points(self.high)}]"


class SideVerdict(JsonPart):
    """Whether a side passed its gate, and which rules failed."""

    passed: bool
    failed: list[str]


class Side(JsonPart):
    """What is said of a side itself; ``data`` is the hash of its prompt sets."""

    name: str
    commit: str | None
    data: str | None
    verdict: SideVerdict | None

    @property
    def outcome(self) -> str:
        if self.verdict is None:
            return "not judged"
        failed = len(self.verdict.failed)
        return "passes" if self.verdict.passed else f"fails {failed} rule{'' if failed == 1 else 's'}"


class PromptCounts(JsonPart):
    """Variants that both sides were asked in the same words, and those of one alone."""

    both: int
    only_a: int
    only_b: int


class Comparison(JsonPart):
    """What changed from A to B. ``prompts`` is null, and there are no ``rates``, where a side has no samples."""

    a: Side
    b: Side
    params: list[SettingChange]
    rules: list[RuleChange]
    prompts: PromptCounts | None
    rates: list[RateChange]
    notes: list[str]

    @property
    def heads(self) -> list[str]:
        """What there is to say before any number: verdicts, data, how many prompts, and the notes."""
        a, b = self.a, self.b
        data = "the same" if a.data == b.data else f"{(a.data or 'none')[:12]} -> {(b.data or 'none')[:12]}"
        lines = [f"verdict: {a.outcome} -> {b.outcome}", f"data: {data}"]
        if self.prompts:
            more = {a.name: self.prompts.only_a, b.name: self.prompts.only_b}
            only = "".join(f", {count} only of {name}" for name, count in more.items() if count)
            lines.append(f"prompts of both: {self.prompts.both} in all languages{only}")
        return [*lines, *self.notes]

    @property
    def failed(self) -> list[str]:
        """The rules that B fails, in words."""
        return self.b.verdict.failed if self.b.verdict else []


def _side(of: Snapshot) -> Side:
    verdict = SideVerdict(passed=of.verdict.passed, failed=of.verdict.failed) if of.verdict else None
    return Side(name=of.name, commit=of.commit, data=of.data, verdict=verdict)


def _params(a: Snapshot, b: Snapshot) -> list[SettingChange]:
    keys = [*a.params, *(key for key in b.params if key not in a.params)]
    both = ((key, a.params.get(key), b.params.get(key)) for key in keys)
    return [SettingChange(key=key, a=old, b=new) for key, old, new in both if old != new]


def _rules(a: Snapshot, b: Snapshot) -> list[RuleChange]:
    """The rules that one side passes and the other does not, or does not have."""
    if a.verdict is None or b.verdict is None:
        return []
    before, after = ({(r.rule, r.language): r.passed for r in verdict.rules} for verdict in (a.verdict, b.verdict))
    keys = [*before, *(key for key in after if key not in before)]
    return [
        RuleChange(rule=rule, language=language, a=before.get((rule, language)), b=after.get((rule, language)))
        for rule, language in keys
        if before.get((rule, language)) != after.get((rule, language))
    ]


def _rates(a: pd.DataFrame, b: pd.DataFrame) -> list[RateChange]:
    """Each rate in each language on both sides, on the prompts of both."""
    changes: list[RateChange] = []
    for rate in HEADLINE_RATES:
        rows: list[RateChange] = []
        for tag in dict.fromkeys(a["language"]):
            pair = told_in_both(a[a["language"] == tag], b[b["language"] == tag], rate)
            before, after = (outcomes(samples, rate, count_invalid_as_refusal=False) for samples in pair)
            if before.empty:
                continue
            change = (after - before).to_numpy(dtype=np.float64)
            mean = paired_mean(change, ALPHA)
            good = change if rate in HIGHER_IS_BETTER else -change
            rows.append(
                RateChange(
                    rate=rate,
                    language=tag,
                    n=len(change),
                    a=float(before.mean()),
                    b=float(after.mean()),
                    difference=mean.value,
                    low=mean.low,
                    high=mean.high,
                    better=int((good > 0).sum()),
                    worse=int((good < 0).sum()),
                    p_holm=1.0,
                    sure=False,
                )
            )
        corrected = paired_tests([(row.better, row.worse) for row in rows])[1]
        changes += [
            row.model_copy(update={"p_holm": float(p), "sure": bool(p < SURE)})
            for row, p in zip(rows, corrected, strict=True)
        ]
    return changes


def compare(before: str, after: str, registered: str, paths: Paths) -> Comparison:
    """What changed between two sides, by their names. ``registered`` is the registered model's name.

    Raises:
        MlcError: a side does not exist, or what it left cannot be read.
    """
    return between(snapshot(before, registered, paths), snapshot(after, registered, paths))


def between(a: Snapshot, b: Snapshot) -> Comparison:
    """What changed from one side to the other.

    Rates are on the prompts that both were asked, in the same words; intervals are by bootstrap over prompts.
    """
    comparison = Comparison(
        a=_side(a),
        b=_side(b),
        params=_params(a, b),
        rules=_rules(a, b),
        prompts=None,
        rates=[],
        notes=[f"{s.name} has no evaluation of a candidate" for s in (a, b) if s.samples is None],
    )
    if a.samples is None or b.samples is None:
        return comparison
    keys_a, keys_b = (pd.MultiIndex.from_frame(samples[SAME]) for samples in (a.samples, b.samples))
    of_a, of_b = a.samples[keys_a.isin(keys_b)], b.samples[keys_b.isin(keys_a)]
    both = len(of_a)
    judges = [sorted(set(s["judge"] + " " + s["judge_version"])) for s in (of_a, of_b)]
    other = [f"not the same judge: {', '.join(judges[0])}, then {', '.join(judges[1])}"]
    return comparison.model_copy(
        update={
            "prompts": PromptCounts(both=both, only_a=len(a.samples) - both, only_b=len(b.samples) - both),
            "rates": _rates(of_a, of_b) if both else [],
            "notes": comparison.notes + (other if judges[0] != judges[1] else []),
        }
    )


def setting_text(value: JsonValue) -> str:
    """A setting's value, or a dash where a side does not have it."""
    return MISSING if value is None else json.dumps(value, ensure_ascii=False)


def render_text(comparison: Comparison) -> str:
    """The comparison for a terminal."""
    a, b = comparison.a.name, comparison.b.name
    parts = ["\n".join(visible(line) for line in [f"{a} -> {b}", *comparison.heads])]
    if comparison.params:
        rows = [
            [visible(p.key), visible(setting_text(p.a)), "->", visible(setting_text(p.b))] for p in comparison.params
        ]
        parts.append("settings\n" + table(rows))
    else:
        parts.append("settings: the same")
    if comparison.rules:
        state = {True: "pass", False: "FAIL", None: MISSING}
        rows = [[title(r.rule), r.where, state[r.a], "->", state[r.b]] for r in comparison.rules]
        parts.append("rules of the gate\n" + table(rows))
    if comparison.rates:
        rows = [["", "language", "prompts", visible(a), visible(b), "points, 95%", "by McNemar's test"]]
        for r in comparison.rates:
            rates = [percent(r.a), percent(r.b)]
            judgement = r.judgement.replace("worse", "WORSE")
            rows.append([title(r.rate), language_name(r.language), str(r.n), *rates, r.change, judgement])
        parts.append(table(rows))
    return "\n\n".join(parts)


def render_markdown(comparison: Comparison) -> str:
    """The comparison as GitHub's Markdown: languages down, rates across, what is more than chance in bold."""
    a, b = plain(comparison.a.name), plain(comparison.b.name)
    lines = [f"### {a} → {b}", "", *(f"- {plain(line)}" for line in comparison.heads)]
    lines += [f"  - {plain(sentence)}" for sentence in comparison.failed]
    if comparison.rates:
        rates = [rate for rate in HEADLINE_RATES if any(r.rate == rate for r in comparison.rates)]
        of = {(r.language, r.rate): r for r in comparison.rates}
        lines += ["", f"| language | {' | '.join(map(title, rates))} |", f"|---|{'---|' * len(rates)}"]
        for tag in dict.fromkeys(r.language for r in comparison.rates):
            cells = [_cell(of.get((tag, rate))) for rate in rates]
            lines.append(f"| {plain(language_name(tag))} | {' | '.join(cells)} |")
        lines += [
            "",
            "B, and its points above A with a 95% interval, on the same prompts. **Bold**: more than chance.",
        ]
    if comparison.params:
        lines += ["", "| setting | A | B |", "|---|---|---|"]
        lines += [
            f"| {plain(p.key)} | {plain(setting_text(p.a))} | {plain(setting_text(p.b))} |" for p in comparison.params
        ]
    return "\n".join(lines)


def _cell(rate: RateChange | None) -> str:
    if rate is None:
        return MISSING
    text = f"{percent(rate.b)} ({rate.change})"
    return f"**{text}**" if rate.sure else text
