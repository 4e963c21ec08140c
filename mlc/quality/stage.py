"""The ``validate`` stage: prompt sets in, clean prompt sets, quarantine, metrics and Data Docs out."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from mlc.errors import MlcError, QualityError
from mlc.files import replacing, sha256_folder, write_json, write_jsonl
from mlc.paths import Paths
from mlc.prompts.changing import changing
from mlc.prompts.schema import SETS, PromptRow, write_prompts
from mlc.quality import datacard, quarantine, suite
from mlc.quality.checks import long_frame
from mlc.quality.data_docs import make_offline
from mlc.quality.decisions import Fix, Release, Releases, fixes_file, read_decisions, releases_file
from mlc.quality.measure import PromptSet, chunks, compute_columns, survey
from mlc.settings import Languages, Validate
from mlc.text import visible

# From what is trained on to what is judged by: a text may not be in an earlier and a later set.
_OPTIONAL = "tuning"


def run(languages: Languages, validate: Validate, paths: Paths) -> None:
    """Checks the prompt sets in ``paths.data`` and fills ``paths.prompts``.

    Raises:
        MlcError: a set is missing, unreadable or lacks a language altogether, or a check could not be run.
        QualityError: the prompts are below the configured quality. What explains it is written, clean prompts are not.
    """
    # What an earlier run left would otherwise pass for checked when this one fails.
    if paths.prompts.exists():
        shutil.rmtree(paths.prompts)
    data = _hashes(paths.data)
    contents = datacard.Contents()
    sets = _survey(languages, paths, contents)
    releases = Releases(decisions := read_decisions(releases_file(paths), Release))
    frame = compute_columns(sets, languages, validate, {release.key for release in decisions}, paths.root / ".cache")
    frame["reasons"] = quarantine.reasons(frame, validate, languages.source, releases)
    bad = frame["reasons"].map(bool)
    frame["quarantined"] = bad.astype(object).where(frame["present"], None)
    frame["clean"] = frame["present"] & ~bad
    frame["dropped"] = quarantine.drop_by_rule(frame, languages, validate.minimum_languages)
    variants = zip(frame["set"], frame["id"], frame["language"], strict=True)
    frame["released"] = frame["clean"] & pd.Series([key in releases.waived for key in variants], frame.index)

    with replacing(paths.prompts / "data_docs") as folder:
        outcomes = suite.check(frame, languages, validate, folder)
        make_offline(
            folder,
            outcomes,
            {key: suite.unchecked(lines, key[1] == languages.source) for key, lines in _per_language(frame)},
        )
    failures = [outcome for outcome in outcomes if not outcome.success]
    quarantined = (record for lines, _ in _with_texts(frame, sets, languages) for record in quarantine.records(lines))
    write_jsonl(paths.prompts / "quarantine.jsonl", quarantined)
    rows = {name: _rows(frame[frame["set"] == name], languages) for name in sets}
    metrics = {
        "passed": not failures,
        "expectations": {"evaluated": len(outcomes), "failed": len(failures)},
        "rows": rows,
        "dropped": {
            name: {tag: n for tag, n in prompts.languages.items() if tag not in languages.all}
            for name, prompts in sets.items()
        },
        **_metrics(frame, languages.source),
    }
    write_json(paths.prompts / "metrics.json", metrics)
    stale = releases.stale()
    datacard.write(
        paths.prompts / "datacard.md",
        contents,
        metrics,
        [str(failure) for failure in failures],
        decisions,
        stale,
        read_decisions(fixes_file(paths), Fix),
        data,
        languages,
        validate.minimum_languages,
    )
    for release in stale:
        what = visible(" ".join(release.key))
        print(f"stale, and not obeyed: the release of {what}, whose text or source text is another by now, or gone")
    if failures:
        raise QualityError(
            "the prompts are below the quality that params.yaml asks for:\n"
            + "\n".join(f"  {failure}" for failure in failures)
            + f"\n  look at {paths.prompts / 'data_docs' / 'index.html'} and {paths.prompts / 'quarantine.jsonl'}"
        )
    for name, prompts in sets.items():
        clean = (
            row
            for lines, chunk in _with_texts(frame, {name: prompts}, languages)
            for row in quarantine.clean_rows(lines, {name: chunk})[name]
        )
        write_prompts(paths.prompts / f"{name}.jsonl", clean)
    if _hashes(paths.data) != data:
        shutil.rmtree(paths.prompts)
        raise MlcError(f"{paths.data} was changed while it was checked: run `mlc validate` again")
    _summarise(frame, rows, len(outcomes), languages.source)


def _hashes(data: Path) -> dict[str, str]:
    """Of the prompt sets and decisions, while no command is in the midst of writing some of them."""
    with changing(data):
        return sha256_folder(data)


def _survey(languages: Languages, paths: Paths, contents: datacard.Contents) -> dict[str, PromptSet]:
    sets = {}
    for name in SETS:
        path = paths.data / f"{name}.jsonl"
        if name == _OPTIONAL and not path.exists():
            continue
        sets[name] = survey(path, partial(contents.add, name))
        # Transfer languages are for evaluation alone; a served one is trained on, tuned on and judged.
        needed = languages.all if name == "evaluation" else languages.served
        if absent := [tag for tag in needed if tag not in sets[name].languages]:
            raise MlcError(
                f"{path} has no prompt in {', '.join(absent)}: add translations, "
                "or take the language out of languages in params.yaml"
            )
    return sets


def _with_texts(
    frame: pd.DataFrame, sets: Mapping[str, PromptSet], languages: Languages
) -> Iterator[tuple[pd.DataFrame, list[PromptRow]]]:
    """The sets' rows chunk by chunk, read once more, with their lines of the frame and these lines' texts."""
    for name, prompts in sets.items():
        measured = frame[frame["set"] == name]
        start = 0
        for chunk in chunks(prompts):
            lines = long_frame({name: chunk}, languages.all, languages.source)
            judged = measured.iloc[start : start + len(lines)]
            start += len(lines)
            yield lines.assign(reasons=judged["reasons"].to_numpy(), clean=judged["clean"].to_numpy()), chunk


def _per_language(frame: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    for (name, tag), lines in frame.groupby(["set", "language"], sort=False, observed=True):
        yield (str(name), str(tag)), lines


def _rows(frame: pd.DataFrame, languages: Languages) -> dict[str, int]:
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


def _metrics(frame: pd.DataFrame, source: str) -> dict[str, dict[str, Any]]:
    """Set -> language -> counts of variants and shares; JSON values."""
    metrics: dict[str, dict[str, Any]] = {}
    for (name, tag), lines in _per_language(frame):
        power = lines["association_power"].iloc[0]
        metrics.setdefault(name, {})[tag] = {
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
            "reasons": dict(Counter(reason.check for reasons in lines["reasons"] for reason in reasons)),
        }
    return metrics


def _summarise(frame: pd.DataFrame, rows: Mapping[str, Mapping[str, int]], checks: int, source: str) -> None:
    for name, counts in rows.items():
        lines = frame[frame["set"] == name]
        print(
            f"{name}: {counts['clean']} of {counts['read']} rows clean; {lines['clean'].sum()} variants, "
            f"{lines['quarantined'].eq(True).sum()} in quarantine, {(~lines['present']).sum()} missing"
        )
    for line in _unchecked(frame, source):
        print(line)
    print(f"all {checks} expectations hold")


def _unchecked(frame: pd.DataFrame, source: str) -> list[str]:
    """One line per check that says nothing about some language, in some set."""
    where: dict[str, dict[str, list[str]]] = {}
    for (name, tag), lines in _per_language(frame):
        for check in suite.unchecked(lines, tag == source):
            where.setdefault(check, {}).setdefault(name, []).append(tag)
    pairs = frame[frame["language"] != source].groupby(["set", "language"], observed=True).ngroups
    messages = []
    for check, places in where.items():
        everywhere = sum(tag != source for tags in places.values() for tag in tags) == pairs
        named = "; ".join(f"{name} {', '.join(tags)}" for name, tags in places.items())
        messages.append(f"{check}: unchecked {'everywhere' if everywhere else f'in {named}'}")
    return messages
