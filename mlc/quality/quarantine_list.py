"""Quarantine as a list: counts, then text by text. Texts are shown escaped: they come from anywhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator

from mlc.errors import MlcError
from mlc.paths import Paths
from mlc.quality.decisions import Quarantined, Release, key_of, read_decisions, releases_file, text_hash
from mlc.quality.quarantine_edit import held
from mlc.text import visible

_WIDTH = 100  # characters of a text


def _short(text: str) -> str:
    escaped = visible(text)
    return escaped if len(escaped) <= _WIDTH else escaped[: _WIDTH - 1] + "…"


def _chosen(
    paths: Paths, name: str | None, language: str | None, check: str | None, parts: Collection[str], seen: Counter[str]
) -> Iterator[Quarantined]:
    for record in held(paths):
        checks = [reason["check"] for reason in record["reasons"]]
        seen.update(checks)
        if parts and record["part"] not in parts:
            continue
        if name in (None, record["set"]) and language in (None, record["language"]) and check in (None, *checks):
            yield record


def show_list(
    paths: Paths,
    name: str | None,
    language: str | None,
    check: str | None,
    limit: int,
    as_json: bool,
    parts: Collection[str] = (),
) -> None:
    """Prints what is in quarantine, and how much per set, language and check; or all of it as JSON Lines.

    ``parts`` are the kinds of texts that are shown, all of them if there is none.

    Raises:
        MlcError: there is no quarantine.jsonl, it is broken, or no check of that name put anything into it.
    """
    seen: Counter[str] = Counter()
    chosen = _chosen(paths, name, language, check, parts, seen)
    if as_json:
        for record in chosen:
            print(json.dumps(record))  # ASCII: every other character is escaped
        return
    counts: dict[tuple[str, str], Counter[str]] = {}
    lines: list[str] = []
    released = _released(paths)
    kinds: set[str] = set()
    number = 0
    for number, record in enumerate(chosen, 1):
        checks = [reason["check"] for reason in record["reasons"]]
        key = key_of(record["set"], record["id"], record["language"], record["part"])
        counts.setdefault((record["set"], " ".join(key[2:])), Counter()).update(checks)
        kinds.add(record["part"])
        if number <= limit:
            texts = text_hash(record["text"]), text_hash(record["source_text"])
            waiting = set(checks) <= released.get((*key, *texts), set())
            note = "  (released: `mlc validate` lets it pass)" if waiting else ""
            lines.append(f"{' '.join(map(visible, key))}  {', '.join(map(visible, checks))}{note}")
            lines.append(f"    {_short(record['text'])}")
    if check is not None and check not in seen:
        seen_checks = ", ".join(sorted(map(visible, seen))) or "none"
        raise MlcError(f"nothing is in quarantine for {check!r}; the checks that put anything there: {seen_checks}")
    for (one, tag), of in counts.items():
        print(
            f"{visible(one):<10}  {visible(tag):<8}  "
            + ", ".join(f"{visible(name)} {n}" for name, n in of.most_common())
        )
    word = "text" if kinds - {"prompt"} else "variant"
    print(f"{number} {word}{'' if number == 1 else 's'} in quarantine")
    print(*lines, sep="\n", end="\n" if lines else "")
    if number > limit:
        print(f"and {number - limit} more: --limit {number}, or --json, shows them")


def _released(paths: Paths) -> dict[tuple[str | None, ...], set[str]]:
    """Variant, hash of its text and of its source text -> the checks that it is released from."""
    released: dict[tuple[str | None, ...], set[str]] = {}
    for release in read_decisions(releases_file(paths), Release):
        released.setdefault((*release.key, release.sha256, release.source_sha256), set()).update(release.checks)
    return released
