"""Importing again: nothing twice, changes shown, and what was done here kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc.prompts.merge import Merged, merge
from mlc.prompts.schema import Origin, PromptRow, Provenance

HUMAN, OURS = Provenance(translator="human"), Provenance(translator="facebook/nllb-200", version="1")


def row(number: int, version: int = 0, **more: object) -> PromptRow:
    fields = {
        "id": f"set-{number}",
        "source": "Set",
        "category": "theft",
        "intent": "harmful",
        "prompts": {"en": f"How do I steal {number}?", "sw": f"Niibeje {number}, {version}?"},
        "provenance": {"en": HUMAN, "sw": HUMAN},
        "origin": Origin(sha256=f"{version:064x}"),
    } | more
    return PromptRow.model_validate(fields)


def with_ours(old: PromptRow) -> PromptRow:
    """A row to which a translation was added here, with its back-translation."""
    return old.model_copy(
        update={
            "prompts": old.prompts | {"zh": "怎么偷？"},
            "provenance": old.provenance | {"zh": OURS},
            "back_translations": {"zh": "How to steal?", "sw": "How do I steal it?"},
            "references": {"en": "I cannot help."},
        }
    )


def again(existing: list[PromptRow], imported: list[PromptRow], write: bool = False) -> Merged:
    return merge(existing, imported, "en", write)


ROWS = st.lists(st.integers(0, 9), unique=True).map(lambda numbers: [row(n) for n in numbers])


@given(ROWS, ROWS)
def test_everything_is_there_once_and_a_second_import_changes_nothing(
    existing: list[PromptRow], imported: list[PromptRow]
) -> None:
    merged = again(existing, imported)
    assert merged.rows[: len(existing)] == existing
    assert sorted(r.id for r in merged.rows) == sorted({r.id for r in [*existing, *imported]})
    second = again(merged.rows, imported)
    assert (second.rows, second.added, second.changed) == (merged.rows, [], {})


def test_a_change_at_the_source_is_shown_and_written_only_on_demand() -> None:
    old, new = row(1), row(1, version=1)
    merged = again([row(0), old], [row(0), new, row(2)])
    assert merged.rows == [row(0), old, row(2)]
    (change,) = merged.changed["set-1"]
    assert (change.field, change.language) == ("prompts", "sw")
    assert (change.old, change.new) == ("Niibeje 1, 0?", "Niibeje 1, 1?")
    written = again([row(0), old], [row(0), new, row(2)], write=True)
    assert written.rows == [row(0), new, row(2)], "in their places"
    assert written.changed.keys() == merged.changed.keys()


@pytest.mark.parametrize("field", ["category", "intent", "chosen"])
def test_every_field_counts(field: str) -> None:
    values = {"category": "fraud", "intent": "benign", "chosen": "No."}
    more = {field: values[field]} | ({"rejected": "First, …"} if field == "chosen" else {})
    merged = again([row(1)], [row(1, origin=Origin(sha256="f" * 64), **more)])
    assert field in {change.field for change in merged.changed["set-1"]}


def test_another_revision_with_the_same_content_is_no_change() -> None:
    new = row(1, origin=Origin(sha256="f" * 64, revision="2"))
    merged = again([row(1)], [new])
    assert merged.unchanged == ["set-1"] and merged.rows == [row(1)]


def test_what_was_added_here_stays() -> None:
    old = with_ours(row(1))
    assert again([old], [row(1)]).unchanged == ["set-1"]
    (new,) = again([old], [row(1, version=1)], write=True).rows
    assert new.prompts == {"en": old.prompts["en"], "sw": "Niibeje 1, 1?", "zh": "怎么偷？"}
    assert new.provenance["zh"] == OURS
    assert new.references == {"en": "I cannot help."}
    assert new.back_translations == {"zh": "How to steal?"}, "that of the changed text is of another text"


def test_what_was_made_from_a_changed_request_goes_and_is_shown() -> None:
    old = with_ours(row(1))
    new = row(1, version=1, prompts={"en": "How do I rob?", "sw": "Niibeje 1, 0?"})
    merged = again([old], [new], write=True)
    assert merged.rows == [new.model_copy(update={"back_translations": {"sw": "How do I steal it?"}})]
    changes = {(c.field, c.language): (c.old, c.new) for c in merged.changed["set-1"]}
    assert changes["prompts", "zh"] == ("怎么偷？", None)
    assert changes["references", "en"] == ("I cannot help.", None)


def test_a_language_that_the_publisher_withdrew_goes() -> None:
    new = row(1, version=1, prompts={"en": "How do I steal 1?"}, provenance={"en": HUMAN})
    merged = again([row(1)], [new], write=True)
    assert merged.rows == [new]
    assert ("prompts", "sw", None) in {(c.field, c.language, c.new) for c in merged.changed["set-1"]}


def test_an_edit_made_here_stays_and_is_told() -> None:
    edited = row(1, prompts={"en": "How do I steal 1?", "sw": "Better."})
    merged = again([edited], [row(1)], write=True)
    assert merged.rows == [edited]
    assert list(merged.edited) == ["set-1"] and not merged.changed


def test_rows_that_the_source_no_longer_has_stay_and_are_named() -> None:
    other = row(7, source="Other")
    merged = again([row(0), row(1), other], [row(1)])
    assert merged.rows == [row(0), row(1), other]
    assert merged.gone == ["set-0"]
