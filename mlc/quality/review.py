"""Quarantine as people look at it: the list, and a whole row. Texts are shown escaped: they come from anywhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from mlc.errors import MlcError
from mlc.escape import visible
from mlc.paths import Paths
from mlc.prompts.schema import PromptRow
from mlc.quality.deciding import find, held
from mlc.quality.releases import Fix, Release, fixes_file, read_decisions, releases_file, text_hash

_WIDTH = 100  # characters of a text in the list
Record = dict[str, Any]


def _short(text: str) -> str:
    shown = visible(text)
    return shown if len(shown) <= _WIDTH else shown[: _WIDTH - 1] + "…"


def _chosen(
    paths: Paths, name: str | None, language: str | None, check: str | None, seen: Counter[str]
) -> Iterator[Record]:
    for record in held(paths):
        checks = [reason["check"] for reason in record["reasons"]]
        seen.update(checks)
        if name in (None, record["set"]) and language in (None, record["language"]) and check in (None, *checks):
            yield record


def show_list(
    paths: Paths, name: str | None, language: str | None, check: str | None, limit: int, as_json: bool
) -> None:
    """Prints what is in quarantine, and how much per set, language and check; or all of it as JSON Lines.

    Raises:
        MlcError: there is no quarantine.jsonl, it is broken, or no check of that name put anything into it.
    """
    seen: Counter[str] = Counter()
    chosen = _chosen(paths, name, language, check, seen)
    if as_json:
        for record in chosen:
            print(json.dumps(record))  # ASCII: every other character is escaped
        return
    counts: dict[tuple[str, str], Counter[str]] = {}
    lines: list[str] = []
    released = _released(paths)
    number = 0
    for number, record in enumerate(chosen, 1):
        checks = [reason["check"] for reason in record["reasons"]]
        counts.setdefault((record["set"], record["language"]), Counter()).update(checks)
        if number <= limit:
            key = (record["set"], record["id"], record["language"])
            texts = text_hash(record["text"]), text_hash(record["source_text"])
            waiting = set(checks) <= released.get((*key, *texts), set())
            note = "  (released: `mlc validate` lets it pass)" if waiting else ""
            lines.append(f"{' '.join(map(visible, key))}  {', '.join(map(visible, checks))}{note}")
            lines.append(f"    {_short(record['text'])}")
    if check is not None and check not in seen:
        found = ", ".join(sorted(map(visible, seen))) or "none"
        raise MlcError(f"no variant is in quarantine for {check!r}; the checks that put any there: {found}")
    for (one, tag), of in counts.items():
        print(
            f"{visible(one):<10}  {visible(tag):<8}  "
            + ", ".join(f"{visible(name)} {n}" for name, n in of.most_common())
        )
    print(f"{number} variant{'' if number == 1 else 's'} in quarantine")
    print(*lines, sep="\n", end="\n" if lines else "")
    if number > limit:
        print(f"and {number - limit} more: --limit {number}, or --json, shows them")


def _released(paths: Paths) -> dict[tuple[str | None, ...], set[str]]:
    """Variant, hash of its text and of its source text -> the checks that it is released from."""
    released: dict[tuple[str | None, ...], set[str]] = {}
    for release in read_decisions(releases_file(paths), Release):
        released.setdefault((*release.key, release.sha256, release.source_sha256), set()).update(release.checks)
    return released


def show_row(paths: Paths, name: str, row_id: str, source: str, language: str | None) -> None:
    """Prints a row as it is in the data now: every text, or one and its source text, and what was found and decided.

    Raises:
        MlcError: the set, the row or the language does not exist, or quarantine.jsonl does not.
    """
    row = find(paths, name, row_id)
    records = {r["language"]: r for r in held(paths) if (r["set"], r["id"]) == (name, row_id)}
    tags = list(dict.fromkeys([*row.prompts, *records]))
    if language is not None and language not in tags:
        raise MlcError(f"{name} {visible(row_id)} has no {language!r}: it has {', '.join(tags)}")
    for title, value in _about(row):
        print(f"{title:<10}  {visible(value)}")
    for tag in tags:
        if language in (None, tag) or tag == source:
            print(*_variant(row, tag, records.get(tag)), sep="\n    ")
            print(*_decided(paths, (name, row_id, tag)), sep="", end="")


def _about(row: PromptRow) -> Iterator[tuple[str, str]]:
    yield "id", row.id
    yield "intent", row.intent
    yield "category", row.category
    yield "source", row.source
    if row.origin is not None:
        yield "licence", row.origin.licence or "not named"
        yield "revision", row.origin.revision or "not named"
    if row.chosen is not None and row.rejected is not None:
        yield "chosen", row.chosen
        yield "rejected", row.rejected


def _variant(row: PromptRow, tag: str, record: Record | None) -> Iterator[str]:
    text = row.prompts.get(tag)
    yield f"{visible(tag)}  {'in quarantine' if record else 'not in quarantine'}"
    yield "(no text)" if text is None else visible(text)
    if tag in row.provenance:
        by = row.provenance[tag]
        yield f"from: {visible(by.translator)}{f' {visible(by.version)}' if by.version else ''}"
    if tag in row.back_translations:
        yield f"back-translation: {visible(row.back_translations[tag])}"
    if tag in row.references:
        yield f"reference reply: {visible(row.references[tag])}"
    if record is None:
        return
    if record["text"] != text:
        yield f"was, when it was validated: {visible(record['text'])}"
    for reason in record["reasons"]:
        found = [f"{word} {_value(reason[word])}" for word in ("value", "threshold") if reason[word] is not None]
        yield f"{visible(reason['check'])}: {visible(reason['message'])}" + (f" ({', '.join(found)})" if found else "")


def _value(value: float | str) -> str:
    return visible(value) if isinstance(value, str) else f"{value:.4g}"


def _decided(paths: Paths, key: tuple[str, str, str]) -> Iterator[str]:
    for release in read_decisions(releases_file(paths), Release):
        if release.key == key:
            said = f"released from {', '.join(map(visible, release.checks))}"
            yield f"    {said} on {release.when:%Y-%m-%d} by {visible(release.who)}: {visible(release.why)}\n"
    for fix in read_decisions(fixes_file(paths), Fix):
        if fix.key == key:
            yield f"    fixed on {fix.when:%Y-%m-%d} by {visible(fix.who)}: {visible(fix.why)}\n"
            yield f"      before: {'(no text)' if fix.before is None else visible(fix.before)}\n"
