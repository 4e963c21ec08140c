"""Drafts of a layout as prompt rows: language tags, stable ids, origin, and what is left out."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from mlc.errors import MlcError
from mlc.files import sha256_json
from mlc.progress import track
from mlc.prompts import language_names
from mlc.prompts.importers.doubt import doubt
from mlc.prompts.importers.drafts import DataSet, Draft, LeftOut
from mlc.prompts.importers.kurdish import kurdish_by_script
from mlc.prompts.schema import Origin, PromptRow
from mlc.text import quoted_name


@dataclass(frozen=True)
class Imported:
    """The rows of a source, the records that are not among them, and what to know about its languages."""

    rows: list[PromptRow]
    left_out: list[LeftOut]
    warnings: list[str]


def assemble(
    items: Iterable[Draft | LeftOut], data_set: DataSet, revision: str | None, source: str, location: str = "the source"
) -> Imported:
    """Makes prompt rows of drafts; ``source`` is the source language's tag, ``location`` what was read, for messages.

    A row's id is the publisher's, or else a hash of its request and intent: the same for every revision of the set,
    whatever the order. Of several records with the same request and no id of the publisher's, the first is taken.

    Raises:
        MlcError: a language name that is none, no text in the source language at all, texts that are surely not in the
            language they are called, or two records with the publisher's same id and different content.
    """
    drafts: list[Draft] = []
    left_out: list[LeftOut] = []
    for item in items:
        if isinstance(item, Draft):
            drafts.append(item)
        else:
            left_out.append(item)
    told = {source: source} if any(draft.language_told for draft in drafts) else {}
    drafts, found = (drafts, []) if told else kurdish_by_script(drafts)
    names = dict.fromkeys(name for draft in drafts for name in (*draft.texts, *draft.references))
    tag_of, warnings = language_names.resolve(
        {name: [d.texts[name] for d in drafts if name in d.texts] for name in names if name not in told}
    )
    tag_of |= told  # a tag already, where a name has to become one
    if drafts and source not in tag_of.values():
        has = ", ".join(sorted(tag_of.values())) or "none"
        raise MlcError(f"{location}: no text is in the source language, {source}; its languages are {has}: name one of "
                       "them with --source-language")  # fmt: skip
    warnings += found + doubt(drafts, tag_of, source, location)
    rows: dict[str, PromptRow] = {}
    places: dict[str, str] = {}
    for draft in track(drafts, "making rows"):
        row = _row(draft, data_set, tag_of, revision, source)
        if row is None:
            left_out.append(LeftOut(draft.where, f"no text in the source language, {source}"))
        elif row.id not in rows:
            rows[row.id], places[row.id] = row, draft.where
        elif _content(row) == _content(rows[row.id]):
            left_out.append(LeftOut(draft.where, "repeats an earlier record"))
        elif draft.key is None:
            left_out.append(LeftOut(draft.where, "another record of the same request was taken"))
        else:
            raise MlcError(
                f"{draft.where}: id {quoted_name(draft.key)} is also that of {places[row.id]}, with different content "
                f"({', '.join(_differences(row, rows[row.id]))}): mend the source"
            )
    return Imported(list(rows.values()), left_out, warnings)


def _row(
    draft: Draft, data_set: DataSet, tag_of: dict[str, str], revision: str | None, source: str
) -> PromptRow | None:
    prompts = {tag_of[name]: text for name, text in draft.texts.items()}
    if source not in prompts:
        return None
    key = draft.key or sha256_json([prompts[source], draft.intent])[:16]
    return PromptRow(
        id=f"{re.sub('[^a-z0-9]+', '-', data_set.name.lower()).strip('-')}-{key}",
        source=data_set.name,
        category=draft.category,
        intent=draft.intent,
        prompts={source: prompts[source]} | prompts,
        chosen=draft.chosen,
        rejected=draft.rejected,
        references={tag_of[name]: text for name, text in draft.references.items()},
        provenance={tag: data_set.written_by(tag) for tag in prompts},
        back_translations={tag_of[name]: text for name, text in draft.back_translations.items()},
        # By way of JSON with str: Parquet and the hub may hold dates and bytes.
        origin=Origin(
            licence=data_set.licence,
            revision=revision,
            sha256=sha256_json(json.loads(json.dumps(draft.record, default=str))),
        ),
    )


def _content(row: PromptRow) -> PromptRow:
    return row.model_copy(update={"origin": None})


def _differences(a: PromptRow, b: PromptRow) -> list[str]:
    return [name for name in PromptRow.model_fields if name != "origin" and getattr(a, name) != getattr(b, name)]
