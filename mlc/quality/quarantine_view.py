"""Quarantine as people look at it: the list, and a whole row. Texts are shown escaped: they come from anywhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypedDict

from mlc.errors import MlcError
from mlc.files import JsonPart
from mlc.paths import Paths
from mlc.quality.decisions import Fix, Quarantined, Release, fixes_file, read_decisions, releases_file, text_hash
from mlc.quality.quarantine_edit import find, held
from mlc.text import visible

_WIDTH = 100  # characters of a text in the list


class ProvenanceView(TypedDict):
    """A ``Provenance`` as JSON has it."""

    translator: str
    version: str | None


class OriginView(TypedDict):
    """An ``Origin`` as JSON has it."""

    licence: str | None
    revision: str | None
    sha256: str


class DecisionView(TypedDict):
    """A ``Decision`` as JSON has it."""

    set: str
    id: str
    language: str
    who: str
    why: str
    when: str


class ReleaseView(DecisionView):
    """A ``Release`` as JSON has it."""

    checks: list[str]
    sha256: str
    source_sha256: str | None


class FixView(DecisionView):
    """A ``Fix`` as JSON has it."""

    before: str | None
    after: str
    provenance: ProvenanceView | None
    back_translation: str | None


class VariantView(TypedDict):
    """A variant as it is in the data now; ``quarantine`` is the line of quarantine.jsonl about it."""

    text: str | None
    provenance: ProvenanceView | None
    back_translation: str | None
    reference: str | None
    quarantine: Quarantined | None
    releases: list[ReleaseView]
    fixes: list[FixView]


class RowView(TypedDict):
    """A row as it is in the data now, with its variants by language."""

    set: str
    id: str
    intent: str
    category: str
    source: str
    origin: OriginView | None
    chosen: str | None
    rejected: str | None
    variants: dict[str, VariantView]


def _short(text: str) -> str:
    escaped = visible(text)
    return escaped if len(escaped) <= _WIDTH else escaped[: _WIDTH - 1] + "…"


def _chosen(
    paths: Paths, name: str | None, language: str | None, check: str | None, seen: Counter[str]
) -> Iterator[Quarantined]:
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
        seen_checks = ", ".join(sorted(map(visible, seen))) or "none"
        raise MlcError(f"no variant is in quarantine for {check!r}; the checks that put any there: {seen_checks}")
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


def describe(paths: Paths, name: str, row_id: str, source: str, language: str | None) -> RowView:
    """A row as it is in the data now, ready for JSON: what it is, and ``variants``, all or one and its source text.

    A variant has its text (null where it is missing), what belongs to it, the line of quarantine.jsonl about it if
    there is one, and what people decided.

    Raises:
        MlcError: the set, the row or the language does not exist, or quarantine.jsonl does not.
    """
    row = find(paths, name, row_id)
    records = {r["language"]: r for r in held(paths) if (r["set"], r["id"]) == (name, row_id)}
    tags = list(dict.fromkeys([*row.prompts, *records]))
    if language is not None and language not in tags:
        raise MlcError(f"{name} {visible(row_id)} has no {language!r}: it has {', '.join(tags)}")
    releases = read_decisions(releases_file(paths), Release)
    fixes = read_decisions(fixes_file(paths), Fix)
    plain = _plain(row)
    variants: dict[str, VariantView] = {}
    for tag in (tag for tag in tags if language in (None, tag) or tag == source):
        key = (name, row_id, tag)
        variants[tag] = {
            "text": row.prompts.get(tag),
            "provenance": plain["provenance"].get(tag),
            "back_translation": row.back_translations.get(tag),
            "reference": row.references.get(tag),
            "quarantine": records.get(tag),
            "releases": [_plain(release) for release in releases if release.key == key],
            "fixes": [_plain(fix) for fix in fixes if fix.key == key],
        }
    return {
        "set": name,
        "id": row.id,
        "intent": row.intent,
        "category": row.category,
        "source": row.source,
        "origin": plain["origin"],
        "chosen": row.chosen,
        "rejected": row.rejected,
        "variants": variants,
    }


def _plain(part: JsonPart) -> Any:
    return part.model_dump(mode="json")


def render_text(row: RowView) -> str:
    """What ``describe`` found, for a terminal."""
    lines = [f"{title:<10}  {visible(value)}" for title, value in _about(row)]
    for tag, variant in row["variants"].items():
        lines.append(f"{visible(tag)}  {'in quarantine' if variant['quarantine'] else 'not in quarantine'}")
        lines += [f"    {line}" for line in (*_variant(variant), *_decided(variant))]
    return "\n".join(lines)


def _about(row: RowView) -> Iterator[tuple[str, str]]:
    yield "id", row["id"]
    yield "intent", row["intent"]
    yield "category", row["category"]
    yield "source", row["source"]
    if row["origin"] is not None:
        yield "licence", row["origin"]["licence"] or "not named"
        yield "revision", row["origin"]["revision"] or "not named"
    if row["chosen"] is not None and row["rejected"] is not None:
        yield "chosen", row["chosen"]
        yield "rejected", row["rejected"]


def _variant(variant: VariantView) -> Iterator[str]:
    text, by, record = variant["text"], variant["provenance"], variant["quarantine"]
    yield _text(text)
    if by is not None:
        version = f" {visible(by['version'])}" if by["version"] else ""
        yield f"from: {visible(by['translator'])}{version}"
    if variant["back_translation"] is not None:
        yield f"back-translation: {visible(variant['back_translation'])}"
    if variant["reference"] is not None:
        yield f"reference reply: {visible(variant['reference'])}"
    if record is None:
        return
    if record["text"] != text:
        yield f"was, when it was validated: {visible(record['text'])}"
    for reason in record["reasons"]:
        values = (("value", reason["value"]), ("threshold", reason["threshold"]))
        details = ", ".join(f"{word} {_value(value)}" for word, value in values if value is not None)
        yield f"{visible(reason['check'])}: {visible(reason['message'])}" + (f" ({details})" if details else "")


def _text(text: str | None) -> str:
    return "(no text)" if text is None else visible(text)


def _value(value: float | str) -> str:
    return visible(value) if isinstance(value, str) else f"{value:.4g}"


def _decided(variant: VariantView) -> Iterator[str]:
    for release in variant["releases"]:
        yield f"released from {', '.join(map(visible, release['checks']))} {_by(release)}"
    for fix in variant["fixes"]:
        yield f"fixed {_by(fix)}"
        yield f"  before: {_text(fix['before'])}"


def _by(decision: DecisionView) -> str:
    return f"on {decision['when'][:10]} by {visible(decision['who'])}: {visible(decision['why'])}"
