"""The ``validate`` stage: prompt sets in, clean prompt sets, quarantine, metrics and Data Docs out."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mlc.errors import MlcError, QualityError
from mlc.files import replacing, write_json, write_jsonl
from mlc.paths import Paths
from mlc.prompts.schema import PromptRow, read_prompts, write_prompts
from mlc.quality import quarantine, suite
from mlc.quality.columns import add_quality, long_frame
from mlc.quality.data_docs import make_offline
from mlc.quality.releases import Release, Releases, read_decisions, releases_file
from mlc.settings import Languages, Validate

# From what is trained on to what is judged by: a text may not be in an earlier and a later set.
_SETS = ("alignment", "tuning", "evaluation")
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
    sets = _read(languages, paths)
    frame = add_quality(long_frame(sets, languages.all, languages.source), languages.source, _SETS)
    releases = Releases(read_decisions(releases_file(paths), Release))
    frame["reasons"] = quarantine.reasons(frame, validate, languages.source, releases)
    bad, there = frame["reasons"].map(bool), frame["text"].notna()
    frame["quarantined"] = bad.astype(object).where(there, None)
    frame["clean"] = there & ~bad
    frame["dropped"] = quarantine.drop_by_rule(frame, languages, validate.minimum_languages)
    variants = zip(frame["set"], frame["id"], frame["language"], strict=True)
    frame["released"] = frame["clean"] & pd.Series([key in releases.waived for key in variants], frame.index)

    with replacing(paths.prompts / "data_docs") as folder:
        outcomes = suite.check(frame, languages, validate, folder)
        make_offline(folder, outcomes)
    failures = [outcome for outcome in outcomes if not outcome.success]
    clean = quarantine.clean_rows(frame, sets)
    write_jsonl(paths.prompts / "quarantine.jsonl", quarantine.records(frame))
    write_json(
        paths.prompts / "metrics.json",
        {
            "passed": not failures,
            "expectations": {"evaluated": len(outcomes), "failed": len(failures)},
            "rows": {name: _rows(frame[frame["set"] == name], languages) for name in sets},
            "dropped": {name: _dropped(rows, languages) for name, rows in sets.items()},
            **_metrics(frame),
        },
    )
    if failures:
        raise QualityError(
            "the prompts are below the quality that params.yaml asks for:\n"
            + "\n".join(f"  {failure}" for failure in failures)
            + f"\n  look at {paths.prompts / 'data_docs' / 'index.html'} and {paths.prompts / 'quarantine.jsonl'}"
        )
    for name, rows in clean.items():
        write_prompts(paths.prompts / f"{name}.jsonl", rows)
    _summarise(frame, sets, clean, len(outcomes))


def _read(languages: Languages, paths: Paths) -> dict[str, list[PromptRow]]:
    sets = {}
    for name in _SETS:
        path = paths.data / f"{name}.jsonl"
        if name == _OPTIONAL and not path.exists():
            continue
        rows = sets[name] = read_prompts(path)
        present = {tag for row in rows for tag in row.prompts}
        # Transfer languages are for evaluation alone; a served one is trained on, tuned on and judged.
        needed = languages.all if name == "evaluation" else languages.served
        if absent := [tag for tag in needed if tag not in present]:
            raise MlcError(
                f"{path} has no prompt in {', '.join(absent)}: add translations, "
                "or take the language out of languages in params.yaml"
            )
    return sets


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


def _dropped(rows: Sequence[PromptRow], languages: Languages) -> dict[str, int]:
    """Variants per language that the settings do not name."""
    return dict(Counter(tag for row in rows for tag in row.prompts if tag not in languages.all))


def _share(column: pd.Series) -> float | None:
    """The share of true among what was checked, None if nothing was."""
    checked = column.dropna()
    return float(checked.astype(bool).mean()) if len(checked) else None


def _metrics(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Set -> language -> counts of variants and shares; JSON values."""
    metrics: dict[str, dict[str, Any]] = {}
    for (name, tag), lines in frame.groupby(["set", "language"], sort=False):
        ratio, script = lines["length_ratio"].median(), lines["script_share"].mean()
        metrics.setdefault(str(name), {})[str(tag)] = {
            "variants": int(lines["text"].notna().sum()),
            "clean": int(lines["clean"].sum()),
            "quarantined": int(lines["quarantined"].eq(True).sum()),
            "dropped_by_rule": int(lines["dropped"].sum()),
            "released": int(lines["released"].sum()),
            "missing": int(lines["text"].isna().sum()),
            "coverage": float(lines["clean"].mean()),
            "language_share": _share(lines["right_language"]),
            "script_share": None if pd.isna(script) else float(script),
            "median_length_ratio": None if pd.isna(ratio) else float(ratio),
            "reasons": dict(Counter(reason.check for found in lines["reasons"] for reason in found)),
        }
    return metrics


def _summarise(
    frame: pd.DataFrame,
    sets: Mapping[str, Sequence[PromptRow]],
    clean: Mapping[str, Sequence[PromptRow]],
    checks: int,
) -> None:
    for name, rows in sets.items():
        lines = frame[frame["set"] == name]
        print(
            f"{name}: {len(clean[name])} of {len(rows)} rows clean; {lines['clean'].sum()} variants, "
            f"{lines['quarantined'].eq(True).sum()} in quarantine, {lines['text'].isna().sum()} missing"
        )
    for column, what in (("right_language", "language identification"), ("script_share", "the script")):
        checked = frame[column].notna().groupby(frame["language"], sort=False).any()
        if not checked.all():
            print(f"{what} is not known for {', '.join(checked.index[~checked])}: unchecked")
    print(f"all {checks} expectations hold")
