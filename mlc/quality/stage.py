"""The ``validate`` stage: prompt sets in, clean prompt sets, quarantine, metrics and Data Docs out."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pandas as pd

from mlc.errors import MlcError, QualityError
from mlc.files import replacing, sha256_folder, write_json, write_jsonl
from mlc.paths import Paths
from mlc.prompts.changing import changing
from mlc.prompts.schema import SETS, PromptRow, write_prompts
from mlc.quality import datacard, quarantine, suite, summary
from mlc.quality.checks import long_frame
from mlc.quality.data_docs import make_offline
from mlc.quality.decisions import Fix, Key, Quarantined, Release, Releases, fixes_file, read_decisions, releases_file
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
    frame, replies = compute_columns(
        sets, languages, validate, {release.key for release in decisions}, paths.root / ".cache"
    )
    frame["reasons"] = quarantine.reasons(frame, validate, languages.source, releases)
    held = quarantine.held_replies(replies, releases)
    bad = frame["reasons"].map(bool)
    frame["quarantined"] = bad.astype(object).where(frame["present"], None)
    frame["clean"] = frame["present"] & ~bad
    frame["dropped"] = quarantine.drop_by_rule(frame, languages, validate.minimum_languages)
    variants = zip(frame["set"], frame["id"], frame["language"], strict=True)
    frame["released"] = frame["clean"] & pd.Series([key in releases.waived for key in variants], frame.index)
    frame["pairs"], frame["references"] = quarantine.lines_with_replies(frame, replies, held)

    with replacing(paths.prompts / "data_docs") as folder:
        outcomes = suite.check(_less_waived(frame, releases.waived), languages, validate, folder)
        make_offline(
            folder,
            outcomes,
            {key: suite.unchecked(lines, key[1] == languages.source) for key, lines in summary.per_language(frame)},
        )
    shortfalls = summary.shortfalls(outcomes, frame, held)
    failures = [one for one in shortfalls if not one.outcome.success]
    warnings = [one for one in shortfalls if one.outcome.success]
    write_jsonl(paths.prompts / "quarantine.jsonl", _quarantined(frame, sets, languages, held))
    rows = {name: summary.rows(frame[frame["set"] == name], languages) for name in sets}
    of_replies = summary.reply_metrics(replies, held)
    metrics = {
        "passed": not failures,
        "expectations": {"evaluated": len(outcomes), "failed": len(failures), "warned": len(warnings)},
        "limits": [one.fields() for one in shortfalls],
        "rows": rows,
        "dropped": {
            name: {tag: n for tag, n in prompts.languages.items() if tag not in languages.all}
            for name, prompts in sets.items()
        },
        "replies": of_replies,
        **summary.metrics(frame, languages.source),
    }
    write_json(paths.prompts / "metrics.json", metrics)
    stale = releases.stale()
    datacard.write(
        paths.prompts / "datacard.md",
        contents,
        metrics,
        [str(one) for one in failures],
        [str(one) for one in warnings],
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
    for line in summary.lines_of(frame, rows, of_replies, languages.source):
        print(line)
    for warning in warnings:
        print(f"warning: {warning}")
    if failures:
        raise QualityError(
            "the prompts are below the quality that params.yaml asks for: look at "
            f"{paths.prompts / 'data_docs' / 'index.html'} and {paths.prompts / 'quarantine.jsonl'}\n"
            + "\n".join(f"  {failure}" for failure in failures)
        )
    for name, prompts in sets.items():
        clean = (
            row
            for lines, chunk in _with_texts(frame, {name: prompts}, languages)
            for row in quarantine.clean_rows(lines, {name: chunk}, held)[name]
        )
        write_prompts(paths.prompts / f"{name}.jsonl", clean)
    if _hashes(paths.data) != data:
        shutil.rmtree(paths.prompts)
        raise MlcError(f"{paths.data} was changed while it was checked: run `mlc validate` again")
    print(f"all {len(outcomes)} expectations hold{f', {len(warnings)} with a warning' if warnings else ''}")


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


def _quarantined(
    frame: pd.DataFrame, sets: Mapping[str, PromptSet], languages: Languages, held: quarantine.Held
) -> Iterator[Quarantined]:
    for name, prompts in sets.items():
        for lines, chunk in _with_texts(frame, {name: prompts}, languages):
            yield from quarantine.records(lines)
            yield from quarantine.reply_records(name, chunk, languages, held)


def _less_waived(frame: pd.DataFrame, waived: Mapping[Key, tuple[str, ...]]) -> pd.DataFrame:
    """The frame without what people released: a check that somebody answers for counts neither way."""
    if not waived:
        return frame
    frame = frame.copy()
    variants = zip(frame.index, frame["set"], frame["id"], frame["language"], strict=True)
    for index, *key in variants:
        for check in waived.get((key[0], key[1], key[2]), ()):
            frame.loc[index, check] = None
    return frame


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
