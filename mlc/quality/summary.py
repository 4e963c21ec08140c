"""What validation found, in numbers for ``metrics.json`` and in lines for people."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from mlc.quality import suite
from mlc.quality.decisions import Reason
from mlc.quality.quarantine import Held
from mlc.settings import Languages
from mlc.text import visible

_WORST = 3  # reasons that a line names


def per_language(frame: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    for (name, tag), lines in frame.groupby(["set", "language"], sort=False, observed=True):
        yield (str(name), str(tag)), lines


def rows(frame: pd.DataFrame, languages: Languages) -> dict[str, int]:
    """How many rows of a set there are, are clean in any language, go by rule, and stay without a served language."""
    served = (frame["clean"] & frame["language"].isin(languages.served)).groupby(frame["id"]).sum()
    clean, dropped = (frame[column].groupby(frame["id"]).any() for column in ("clean", "dropped"))
    return {
        "read": len(clean),
        "clean": int(clean.sum()),
        "dropped_by_rule": int(dropped.sum()),
        "kept_incomplete": int((clean & (served < len(languages.served))).sum()),
    }


def _share(column: pd.Series) -> float | None:
    """The share of true among what was checked, None if nothing was."""
    checked = column.dropna()
    return float(checked.astype(bool).mean()) if len(checked) else None


def _number(value: float) -> float | None:
    return None if pd.isna(value) else round(float(value), 6)


def _counted(reasons: Iterable[Iterable[Reason]]) -> dict[str, int]:
    return dict(Counter(reason.check for of_one in reasons for reason in of_one))


def metrics(frame: pd.DataFrame, source: str) -> dict[str, dict[str, Any]]:
    """Set -> language -> counts of variants and shares; JSON values."""
    result: dict[str, dict[str, Any]] = {}
    for (name, tag), lines in per_language(frame):
        power = lines["association_power"].iloc[0]
        result.setdefault(name, {})[tag] = {
            "variants": int(lines["present"].sum()),
            "clean": int(lines["clean"].sum()),
            "quarantined": int(lines["quarantined"].eq(True).sum()),
            "dropped_by_rule": int(lines["dropped"].sum()),
            "released": int(lines["released"].sum()),
            "missing": int((~lines["present"]).sum()),
            "coverage": float(lines["clean"].mean()),
            "language_share": _share(lines["right_language"]),
            "retrieval": _share(lines["retrieved"]),
            "script_share": _number(lines["script_share"].mean()),
            "median_length_ratio": _number(lines["length_ratio"].median()),
            "near_duplicates": int(lines["near_duplicate_of"].notna().sum()),
            "misplaced_power": _number(power),
            "cut_off_power": _number(lines["wholeness_power"].iloc[0]),
            "mistranslated_power": _number(lines["error_power"].iloc[0]),
            "unchecked": suite.unchecked(lines, tag == source),
            "reasons": _counted(lines["reasons"]),
        }
    return result


def reply_metrics(replies: pd.DataFrame, held: Held) -> dict[str, dict[str, dict[str, Any]]]:
    """Set -> chosen, rejected or reference -> language -> how many there are, and why how many are in quarantine."""
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for (name, part, tag), lines in replies.groupby(["set", "part", "language"], sort=False, observed=True):
        place = str(part), str(tag)
        found = [why for row in lines["id"] if (why := held.get((str(name), str(row)), {}).get(place))]
        result.setdefault(str(name), {}).setdefault(str(part), {})[str(tag)] = {
            "texts": len(lines),
            "quarantined": len(found),
            "unchecked": [check for check in ("other_language", "cut_off") if lines[check].isna().all()],
            "reasons": _counted(found),
        }
    return result


class Shortfall(NamedTuple):
    """A limit that was passed, surely (the check failed) or perhaps (a warning), and what to look at."""

    outcome: suite.Outcome
    worst: dict[str, int]
    """The most frequent reasons -> texts; for ``right_language``, what the texts are taken for."""
    command: str
    """Shows the texts."""

    def __str__(self) -> str:
        named = ", ".join(f"{visible(reason)} {count}" for reason, count in self.worst.items())
        word = "taken for" if self.outcome.check == "right_language" else "for"
        return f"{self.outcome}{f'; {word} {named}' if named else ''}: `{self.command}`"

    def fields(self) -> dict[str, Any]:
        """As ``metrics.json`` has it."""
        outcome = self.outcome
        low, high = outcome.interval
        return {
            "set": outcome.set,
            "language": outcome.language,
            "check": outcome.check,
            "failed": not outcome.success,
            "failing": outcome.failing,
            "of": outcome.lines,
            "low": _number(low),
            "high": _number(high),
            "allowed": _number(outcome.allowed),
            "reasons": self.worst,
            "command": self.command,
        }


def shortfalls(outcomes: Iterable[suite.Outcome], frame: pd.DataFrame, held: Held) -> list[Shortfall]:
    """One for every limit that was surely passed, and then for every one that may be."""
    groups = dict(per_language(frame))
    passed = [outcome for outcome in outcomes if outcome.warned or not outcome.success]
    passed.sort(key=lambda outcome: outcome.success)  # keeps the order otherwise
    return [_shortfall(outcome, groups[outcome.set, outcome.language], held) for outcome in passed]


def _worst(found: Mapping[str, int], check: str) -> dict[str, int]:
    """The most frequent; of equals the limit's own check first, and then by name."""
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0] != check, item[0]))
    return dict(ordered[:_WORST])


def _shortfall(outcome: suite.Outcome, lines: pd.DataFrame, held: Held) -> Shortfall:
    check = outcome.check
    where = f"--set {outcome.set} --language {outcome.language}"
    listed = f"mlc quarantine list {where}"
    if check in ("right_language", "retrieved"):
        failing = lines[lines[check].eq(False)]
        found = Counter(failing["identified"].astype(str)) if check == "right_language" else Counter[str]()
        # They need not be in quarantine, so they are shown as rows.
        show = f"mlc quarantine show {outcome.set} {shlex.quote(visible(failing['id'].iloc[0]))}"
        return Shortfall(outcome, _worst(found, check), f"{show} --language {outcome.language}")
    if check in ("pairs", "references"):
        parts = ("reference",) if check == "references" else ("chosen", "rejected")
        whys = [
            why
            for row in lines["id"]
            for (part, tag), why in held.get((outcome.set, row), {}).items()
            if part in parts and tag == outcome.language
        ]
        found = Counter(_counted(whys))
        options = "".join(f" --part {part}" for part in parts)
        return Shortfall(outcome, _worst(found, check), listed + options)
    if check == "clean":
        failing = lines[~lines["clean"]]
    elif check == "quarantined":
        failing = lines[lines["quarantined"].eq(True)]
    else:
        failing = lines[[any(reason.check == check for reason in reasons) for reasons in lines["reasons"]]]
        listed += f" --check {check}"
    found = Counter(_counted(failing["reasons"]))
    if missing := int((~failing["present"]).sum()):
        found["missing"] = missing
    if missing and missing == len(failing):
        listed = "mlc translate --help"
    return Shortfall(outcome, _worst(found, check), listed)


def lines_of(
    frame: pd.DataFrame,
    counts: Mapping[str, Mapping[str, int]],
    replies: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Any]]]],
    source: str,
) -> Iterator[str]:
    """What a run says at its end, but for the limits."""
    for name, of_set in counts.items():
        lines = frame[frame["set"] == name]
        yield (
            f"{name}: {of_set['clean']} of {of_set['read']} rows clean; {lines['clean'].sum()} variants, "
            f"{lines['quarantined'].eq(True).sum()} in quarantine, {(~lines['present']).sum()} missing"
        )
        found = [one for parts in replies.get(name, {}).values() for one in parts.values()]
        if gone := sum(one["quarantined"] for one in found):
            yield f"{name}: {gone} of {sum(one['texts'] for one in found)} replies in quarantine"
    yield from _unchecked(frame, source)


def _unchecked(frame: pd.DataFrame, source: str) -> list[str]:
    """One line per check that says nothing about some language, in some set."""
    where: dict[str, dict[str, list[str]]] = {}
    for (name, tag), lines in per_language(frame):
        for check in suite.unchecked(lines, tag == source):
            where.setdefault(check, {}).setdefault(name, []).append(tag)
    pairs = frame[frame["language"] != source].groupby(["set", "language"], observed=True).ngroups
    messages = []
    for check, places in where.items():
        everywhere = sum(tag != source for tags in places.values() for tag in tags) == pairs
        named = "; ".join(f"{name} {', '.join(tags)}" for name, tags in places.items())
        messages.append(f"{check}: unchecked {'everywhere' if everywhere else f'in {named}'}")
    return messages
