"""The licences of all that a model is made and judged with, and the rule that they are among those of the settings.

What nothing names a licence of is unknown, and unknown is never allowed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from mlc import licences
from mlc.errors import MlcError
from mlc.gates.rules import Measured, RuleResult, result
from mlc.gates.verdict import Licensed, Verdict
from mlc.licences import UNKNOWN
from mlc.paths import Paths
from mlc.prompts.schema import PromptRow, iter_prompts
from mlc.settings import Gate, Judge, Settings
from mlc.text import visible

_NAMED = 5  # of what is under another licence, in the reason
_WHAT = {
    "rows": "the rows of {}",
    "translator": "the translations by {}",
    "base": "the base {}",
    "judge": "the judge {}",
}


def of_rows(sets: Mapping[str, Path]) -> list[Licensed]:
    """The data sets and translators of prompt sets, name -> file, each with its licence as the rows keep it.

    Raises:
        MlcError: a set cannot be read.
    """
    counts: dict[tuple[Literal["rows", "translator"], str, str | None], Counter[str]] = {}
    for name, path in sets.items():
        for row in iter_prompts(path, made_by="mlc validate"):
            counts.setdefault(("rows", row.source, _licence_of_row(row)), Counter())[name] += 1
            for translator, licence in _translators(row):
                counts.setdefault(("translator", translator, licence), Counter())[name] += 1
    return [
        Licensed(kind=kind, name=name, licence=licence, texts=dict(texts))
        for (kind, name, licence), texts in sorted(counts.items(), key=lambda item: (*item[0][:2], item[0][2] or ""))
    ]


def _licence_of_row(row: PromptRow) -> str | None:
    return licences.spdx(row.origin.licence) if row.origin else None


def _translators(row: PromptRow) -> Iterator[tuple[str, str | None]]:
    """Who made a text of the row by machine, and under which licence: one per text."""
    for tag in row.prompts:
        if by := row.machine(tag):
            yield by.translator, licences.spdx(by.licence)


def of_models(base: str, folder: Path, judges: Sequence[Judge], root: Path) -> list[Licensed]:
    """The base by its name and folder, and the judges of the settings; a guard's folder below ``root`` names its own
    licence."""
    own = licences.of_this_package()
    found = [Licensed(kind="base", name=base, licence=licences.of_model(folder), texts={})]
    for judge in judges:
        if judge.name == "guard":
            name, licence = judge.model, licences.of_model(root / judge.model)
        elif judge.name == "llm":
            name, licence = judge.model, None
        else:
            name, licence = f"mlc's {judge.name} judge", own
        found.append(Licensed(kind="judge", name=name, licence=licence, texts={}))
    return found


def found(base: str, judges: Sequence[Judge], prompt_set: str, paths: Paths) -> list[Licensed]:
    """All that the candidate was trained on, chosen by, judged by and made from.

    Raises:
        MlcError: a prompt set cannot be read.
    """
    files = {name: paths.prompts / f"{name}.jsonl" for name in ("alignment", "tuning", prompt_set)}
    sets = {name: path for name, path in files.items() if name != "tuning" or path.exists()}
    return [*of_rows(sets), *of_models(base, paths.base, judges, paths.root)]


def under(item: Licensed, licence_of: Mapping[str, str]) -> str | None:
    """The licence of something: the one that a person has named for it, else its own; None where it is not known."""
    return licence_of.get(item.name, item.licence)


def of_verdict(verdict: Verdict) -> list[Licensed]:
    """What a verdict says that a model was made and judged with, under the licences that a person has named, if so."""
    licence_of = verdict.gate.get("licence_of")
    named = {name: str(licence) for name, licence in licence_of.items()} if isinstance(licence_of, dict) else {}
    return [item.model_copy(update={"licence": under(item, named)}) for item in verdict.licences]


def sentence(item: Licensed) -> str:
    """``the rows of PKU-SafeRLHF are under CC-BY-NC-4.0 (900 in alignment)``."""
    what = _WHAT[item.kind].format(visible(item.name))
    counts = ", ".join(f"{n:,} in {name}" for name, n in item.texts.items())
    where = f" ({counts})" if counts else ""
    verb = "is" if item.kind in ("base", "judge") else "are"
    return (
        f"{what} {verb} under {visible(item.licence)}{where}"
        if item.licence
        else f"the licence of {what} is {UNKNOWN}{where}"
    )


def licence_results(items: Sequence[Licensed], gate: Gate) -> list[RuleResult]:
    """The result of the rule ``licences``, if ``gate.licences`` asks for it; what has an unknown licence fails it."""
    if gate.licences is None:
        return []
    method, allowed = "SPDX identifiers", set(gate.licences)
    if not items:
        measured = Measured(0, problem="the licences of this model were not written down: run `mlc gate` again")
        return [result("licences", None, measured, 0.0, "at most")]
    now = [item.model_copy(update={"licence": under(item, gate.licence_of)}) for item in items]
    refused = [item for item in now if item.licence is None or not licences.identifiers(item.licence) <= allowed]
    share, reason = len(refused) / len(items), None
    if refused:
        named = "; ".join(map(sentence, refused[:_NAMED]))
        more = f"; and {len(refused) - _NAMED} more" if len(refused) > _NAMED else ""
        unknown = any(item.licence is None for item in refused)
        todo = "Use others, or allow these" + ("; name an unknown licence in gate.licence_of" if unknown else "")
        reason = (
            f"{len(refused)} of {len(items)} are not under one of gate.licences ({', '.join(gate.licences)}):"
            f" {named}{more}. {todo}"
        )
    measured = Measured(len(items), share, share, reason, hits=len(refused), method=method)
    return [result("licences", None, measured, 0.0, "at most")]


def check(settings: Settings, paths: Paths) -> None:
    """What can be said before anything is trained: the candidate will be made and judged with allowed licences.

    Raises:
        MlcError: it will not, or a prompt set cannot be read.
    """
    if reasons := cannot_pass(settings, paths):
        raise MlcError(f"no candidate can pass the gate: {reasons[0]}")


def cannot_pass(settings: Settings, paths: Paths) -> list[str]:
    """Why no candidate can pass the rule ``licences``, if so: by the clean prompts, or those that are to be validated.

    Raises:
        MlcError: a prompt set cannot be read.
    """
    gate = settings.gate
    if gate.licences is None:
        return []
    sets = {
        name: path
        for name in ("alignment", "tuning", settings.evaluate.prompts)
        for path in (paths.data / f"{name}.jsonl", paths.prompts / f"{name}.jsonl")  # the clean ones, if they are there
        if path.exists()
    }
    base = paths.base if paths.base.is_dir() else paths.root / settings.base.model
    items = [*of_rows(sets), *of_models(settings.base.model, base, settings.evaluate.judges, paths.root)]
    if not base.is_dir():  # a model of the hub: its card comes with `mlc base`
        items = [item for item in items if item.kind != "base" or item.name in gate.licence_of]
    return [rule.sentence for rule in licence_results(items, gate) if not rule.passed]
