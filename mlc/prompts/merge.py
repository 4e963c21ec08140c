"""Putting imported rows into a prompt set that may hold earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlc.errors import MlcError
from mlc.prompts.diff import Change, changes
from mlc.prompts.schema import PromptRow


class ChangedSource(MlcError):
    """Rows that are already there are different at the source, and were not written."""

    exit_code = 1


@dataclass(frozen=True)
class Merged:
    """What an import makes of a prompt set."""

    rows: list[PromptRow]  # the set as it becomes, with the source's changes if they are to be written
    added: list[str]
    unchanged: list[str]
    changed: dict[str, list[Change]]  # the record changed at the source since it was imported
    edited: dict[str, list[Change]]  # the record is as it was; the row was changed here, or imported differently
    gone: list[str]  # rows of the same data set that the source no longer has; they stay


def merge(existing: Sequence[PromptRow], imported: Sequence[PromptRow], source: str, write_changes: bool) -> Merged:
    """Adds the imported rows whose id is new, and with ``write_changes`` replaces those that changed at the source.

    Rows that were edited here stay as they are, and so do languages that were added here, unless their source text
    changed: they would be translations of another request. ``source`` is the source language's tag.
    """
    rows = {row.id: row for row in existing}
    merged = Merged([], [], [], {}, {}, [])
    for new in imported:
        old = rows.get(new.id)
        if old is None:
            rows[new.id] = new
            merged.added.append(new.id)
            continue
        updated = _with_ours(old, new, source)
        differences = [change for change in changes(old, updated) if change.field != "origin"]
        if not differences:
            merged.unchanged.append(new.id)
        elif old.origin and new.origin and old.origin.sha256 == new.origin.sha256:
            merged.edited[new.id] = differences
        else:
            merged.changed[new.id] = differences
            if write_changes:
                rows[new.id] = updated
    ids, names = {row.id for row in imported}, {row.source for row in imported}
    merged.gone.extend(row.id for row in existing if row.source in names and row.id not in ids)
    merged.rows.extend(rows.values())
    return merged


def _with_ours(old: PromptRow, new: PromptRow, source: str) -> PromptRow:
    """``new`` with what was added to ``old`` since its import.

    A language is ours if its provenance is not one of the data set's; without provenance nobody knows, and the source
    decides.
    """
    same_request = old.prompts.get(source) == new.prompts[source]
    theirs = [None, *new.provenance.values()]
    ours = [
        tag for tag in old.prompts if same_request and tag not in new.prompts and old.provenance.get(tag) not in theirs
    ]
    prompts = new.prompts | {tag: old.prompts[tag] for tag in ours}
    kept = {tag for tag, text in prompts.items() if old.prompts.get(tag) == text}
    references = {tag: text for tag, text in old.references.items() if same_request and tag not in new.references}
    back = {tag: text for tag, text in old.back_translations.items() if tag in kept}
    return new.model_copy(
        update={
            "prompts": prompts,
            "provenance": new.provenance | {tag: old.provenance[tag] for tag in ours},
            "references": new.references | references,
            "back_translations": back | new.back_translations,
        }
    )
