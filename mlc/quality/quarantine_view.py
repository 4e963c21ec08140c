"""A whole row with what is in quarantine of it, as people look at it. Texts are escaped: they come from anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

from mlc.errors import MlcError
from mlc.files import JsonPart
from mlc.paths import Paths
from mlc.prompts.schema import PromptRow
from mlc.quality.decisions import (
    Fix,
    Part,
    Quarantined,
    Release,
    fixes_file,
    key_of,
    read_decisions,
    releases_file,
)
from mlc.quality.quarantine_edit import find, held, text_of
from mlc.text import visible


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
    part: Part
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


class ReplyView(TypedDict):
    """A reply that is in quarantine, or was decided about; ``text`` is what it is in the data now."""

    part: Part
    language: str
    text: str | None
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
    replies: list[ReplyView]


def describe(paths: Paths, name: str, row_id: str, source: str, language: str | None) -> RowView:
    """A row as it is in the data now, ready for JSON: what it is, and ``variants``, all or one and its source text.

    A variant has its text (null where it is missing), what belongs to it, the line of quarantine.jsonl about it if
    there is one, and what people decided.

    Raises:
        MlcError: the set, the row or the language does not exist, or quarantine.jsonl does not.
    """
    row = find(paths, name, row_id)
    lines = [record for record in held(paths) if (record["set"], record["id"]) == (name, row_id)]
    records = {record["language"]: record for record in lines if record["part"] == "prompt"}
    tags = list(dict.fromkeys([*row.prompts, *records]))
    if language is not None and language not in tags:
        raise MlcError(f"{name} {visible(row_id)} has no {language!r}: it has {', '.join(tags)}")
    releases = read_decisions(releases_file(paths), Release)
    fixes = read_decisions(fixes_file(paths), Fix)
    plain = _plain(row)
    shown = [tag for tag in tags if language in (None, tag) or tag == source]
    variants: dict[str, VariantView] = {}
    for tag in shown:
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
        "replies": [
            reply for reply in _replies(row, name, source, lines, releases, fixes) if reply["language"] in shown
        ],
    }


def _replies(
    row: PromptRow,
    name: str,
    source: str,
    lines: Sequence[Quarantined],
    releases: Sequence[Release],
    fixes: Sequence[Fix],
) -> Iterator[ReplyView]:
    places: list[tuple[Part, str]] = [("chosen", source), ("rejected", source)]
    places += [("reference", tag) for tag in dict.fromkeys([*row.references, *(r["language"] for r in lines)])]
    for part, tag in places:
        key = key_of(name, row.id, tag, part)
        record = next((r for r in lines if (r["part"], r["language"]) == (part, tag)), None)
        released = [_plain(release) for release in releases if release.key == key]
        fixed = [_plain(fix) for fix in fixes if fix.key == key]
        if record is not None or released or fixed:
            yield {
                "part": part,
                "language": tag,
                "text": text_of(row, part, tag),
                "quarantine": record,
                "releases": released,
                "fixes": fixed,
            }


def _plain(part: JsonPart) -> Any:
    return part.model_dump(mode="json")


def render_text(row: RowView) -> str:
    """What ``describe`` found, for a terminal."""
    lines = [f"{title:<10}  {visible(value)}" for title, value in _about(row)]
    for tag, variant in row["variants"].items():
        lines.append(f"{visible(tag)}  {'in quarantine' if variant['quarantine'] else 'not in quarantine'}")
        lines += [f"    {line}" for line in (*_variant(variant), *_decided(variant))]
    for reply in row["replies"]:
        state = "in quarantine" if reply["quarantine"] else "not in quarantine"
        lines.append(f"{visible(reply['language'])} {reply['part']}  {state}")
        lines += [f"    {line}" for line in (_text(reply["text"]), *_found(reply), *_decided(reply))]
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
    text, by = variant["text"], variant["provenance"]
    yield _text(text)
    if by is not None:
        version = f" {visible(by['version'])}" if by["version"] else ""
        yield f"from: {visible(by['translator'])}{version}"
    if variant["back_translation"] is not None:
        yield f"back-translation: {visible(variant['back_translation'])}"
    if variant["reference"] is not None:
        yield f"reference reply: {visible(variant['reference'])}"
    yield from _found(variant)


def _found(about: VariantView | ReplyView) -> Iterator[str]:
    record = about["quarantine"]
    if record is None:
        return
    if record["text"] != about["text"]:
        yield f"was, when it was validated: {visible(record['text'])}"
    for reason in record["reasons"]:
        values = (("value", reason["value"]), ("threshold", reason["threshold"]))
        details = ", ".join(f"{word} {_value(value)}" for word, value in values if value is not None)
        yield f"{visible(reason['check'])}: {visible(reason['message'])}" + (f" ({details})" if details else "")


def _text(text: str | None) -> str:
    return "(no text)" if text is None else visible(text)


def _value(value: float | str) -> str:
    return visible(value) if isinstance(value, str) else f"{value:.4g}"


def _decided(variant: VariantView | ReplyView) -> Iterator[str]:
    for release in variant["releases"]:
        yield f"released from {', '.join(map(visible, release['checks']))} {_by(release)}"
    for fix in variant["fixes"]:
        yield f"fixed {_by(fix)}"
        yield f"  before: {_text(fix['before'])}"


def _by(decision: DecisionView) -> str:
    return f"on {decision['when'][:10]} by {visible(decision['who'])}: {visible(decision['why'])}"
