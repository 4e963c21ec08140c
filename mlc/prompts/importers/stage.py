"""``mlc import``: reads a published data set, says what is in it, and adds what is new to a prompt set."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from mlc.errors import MlcError
from mlc.files import write_jsonl
from mlc.languages.tags import check_language
from mlc.progress import track
from mlc.prompts.changing import changing
from mlc.prompts.diff import Change
from mlc.prompts.importers.drafts import DataSet, Draft, LeftOut
from mlc.prompts.importers.layouts import LAYOUTS, Layout, other_layout
from mlc.prompts.importers.records import Source
from mlc.prompts.importers.rows import Imported, assemble
from mlc.prompts.mapping import load_mapping
from mlc.prompts.merge import ChangedSource, Merged, merge
from mlc.prompts.schema import read_prompts, write_prompts
from mlc.text import quoted_name

Read = Callable[[Source], Iterator[Draft | LeftOut]]
SHOWN = 5  # places per reason, and ids per list; --left-out writes all


def run(
    layout: str,
    source: Source,
    into: Path,
    source_language: str,
    licence: str | None = None,
    limit: int | None = None,
    write_changes: bool = False,
    left_out: Path | None = None,
    name: str | None = None,
) -> None:
    """Imports ``source`` into the prompt set ``into``, and prints what that did.

    ``layout`` is one of ``LAYOUTS`` or the path of a mapping file; ``name`` is the data set's, where the layout does
    not say it. New rows are added. Rows that are there and changed
    at the source are shown, and written with ``write_changes`` only. ``limit`` reads that many records and no more.

    Raises:
        ChangedSource: rows changed at the source and were not written; new ones were.
        MlcError: the source is malformed or cannot be had, or ``into`` is no prompt set. Nothing is written then.
    """
    try:
        check_language(source_language)
    except ValueError as error:
        raise MlcError(f"--source-language: {error}") from None
    data_set, read, source = _resolve(layout, dataclasses.replace(source, language=source_language), name)
    if licence is not None:
        data_set = dataclasses.replace(data_set, licence=licence)
    try:
        items = track(islice(read(source), limit), f"reading {data_set.name}", limit)
        imported = assemble(items, data_set, source.revision, source_language, source.location)
    except MlcError as error:
        hint = other_layout(source, layout)
        if hint:
            raise MlcError(f"{error}; {hint}") from None
        raise
    if not imported.rows and not imported.left_out:
        raise MlcError(f"{source.location} holds no records")
    with changing(into.parent):
        existing = read_prompts(into) if into.exists() and into.stat().st_size else []
        merged = merge(existing, imported.rows, source_language, write_changes)
        if merged.added or (merged.changed and write_changes):
            write_prompts(into, merged.rows)
    if left_out is not None:
        write_jsonl(left_out, (dataclasses.asdict(record) for record in imported.left_out))
    print("\n".join(_summary(data_set, imported, merged, into, whole=limit is None, left_out=left_out)))
    if not imported.rows:
        raise MlcError("no record could be imported: see the reasons above")
    if merged.changed and not write_changes:
        raise ChangedSource(
            f"{len(merged.changed)} rows changed at the source and were left as they are; --write-changes writes them"
        )


def _resolve(layout: str, given: Source, name: str | None) -> tuple[DataSet, Read, Source]:
    """The data set, what reads it, and the source with the configuration, split and revision that hold for it."""
    if layout in LAYOUTS:
        return _known(LAYOUTS[layout], layout, given, name)
    if Path(layout).suffix not in {".yaml", ".yml"}:
        hint = other_layout(given)
        raise MlcError(
            f"{quoted_name(layout)} is no layout: name one of {', '.join(LAYOUTS)}, or a mapping (*.yaml)"
            f"{f'. {hint}' if hint else ''}"
        )
    mapping = load_mapping(Path(layout))
    if given.intent or name:
        raise MlcError(f"--intent, --name: {layout} says them itself, as 'intent' and 'source'")
    if mapping.format != "hub" and (given.config or given.split):
        raise MlcError(f"--config, --split: {layout} is of a {mapping.format} file; only hub sets have them")
    resolved = dataclasses.replace(
        given,
        revision=given.revision or mapping.revision,
        config=given.config or mapping.config,
        split=given.split or mapping.split,
    )
    return mapping.data_set, mapping.drafts, resolved


def _known(layout: Layout, its_name: str, given: Source, name: str | None) -> tuple[DataSet, Read, Source]:
    if other := other_layout(given, its_name):
        raise MlcError(other)
    data_set = layout.data_set
    if data_set is None:
        if given.intent is None:
            raise MlcError(
                f"{layout.title} do not say whether a request is harmful: give --intent harmful or --intent benign, "
                "which then holds for all of them. Where a field tells them apart, write a mapping file"
            )
        data_set = DataSet(name or _default_name(given), None, {}, split="train")
    elif given.intent or name:
        raise MlcError(f"--intent, --name: {data_set.name} says them itself")
    if given.split and data_set.split is None:
        raise MlcError(f"--split: {data_set.name} is not published in splits")
    if given.config and not layout.on_hub:
        raise MlcError(f"--config: {data_set.name} is not read from the hub, which alone has configurations")
    if layout.on_hub and given.path.is_file() and (given.config or given.split):
        raise MlcError(f"--config, --split: {given.location} is a file; only hub sets have them")
    return data_set, layout.read, dataclasses.replace(given, split=given.split or data_set.split)


def _default_name(source: Source) -> str:
    """A file's name without its suffixes; a hub set's own."""
    return source.path.name.partition(".")[0] or source.path.name if source.path.exists() else source.location


def _summary(
    data_set: DataSet, imported: Imported, merged: Merged, into: Path, whole: bool, left_out: Path | None
) -> list[str]:
    rows = imported.rows
    intents = Counter(row.intent for row in rows)
    languages = Counter(tag for row in rows for tag in row.prompts)
    pairs = sum(row.chosen is not None for row in rows)
    lines = [
        f"{data_set.name} ({data_set.licence or 'licence not named'}): {len(rows) + len(imported.left_out)} records, "
        f"{len(rows)} rows ({', '.join(f'{n} {intent}' for intent, n in sorted(intents.items())) or 'none'}"
        f"{f'; {pairs} with chosen and rejected' if pairs else ''})",
        *(f"warning: {warning}" for warning in imported.warnings),
    ]
    if languages:
        lines.append(f"languages: {', '.join(f'{tag} {n}' for tag, n in sorted(languages.items()))}")
    lines += _reasons(imported.left_out, left_out)
    lines.append(
        f"{into}: {len(merged.added)} added, {len(merged.unchanged)} unchanged, {len(merged.changed)} changed at the "
        f"source; {len(merged.rows)} rows now"
    )
    lines += _rows("changed at the source", merged.changed)
    lines += _rows("differ here from an unchanged source (edited, or imported by another mapping), and stay; remove "
                   "such a row from the file to import it again", merged.edited)  # fmt: skip
    if whole and merged.gone:
        lines.append(f"{len(merged.gone)} rows are no longer in the source, and stay: {_some(merged.gone)}")
    return lines


def _reasons(left_out: Sequence[LeftOut], file: Path | None) -> list[str]:
    """Every reason with its count and places: all of them are in ``file`` or can be."""
    places: dict[str, list[str]] = {}
    for record in left_out:
        places.setdefault(record.reason, []).append(record.where)
    lines = [f"left out, {reason}: {len(where)} ({_some(where)})" for reason, where in places.items()]
    if any(len(where) > SHOWN for where in places.values()):
        lines.append(f"all records left out are in {file}" if file else "--left-out FILE lists all records left out")
    return lines


def _some(names: Iterable[str]) -> str:
    names = [quoted_name(name) for name in names]
    more = len(names) - SHOWN
    return "; ".join(names[:SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _rows(what: str, changed: dict[str, list[Change]]) -> list[str]:
    lines = [f"{len(changed)} rows {what}:"] if changed else []
    for id_, changes in changed.items():
        lines += [f"~ {quoted_name(id_)}", *(line for change in changes for line in change.lines())]
    return lines
