from __future__ import annotations

from typing import Any

import pytest

from mlc.prompts.schema import PromptRow
from mlc.quality import quarantine
from mlc.quality.columns import add_quality, long_frame
from mlc.quality.releases import Releases
from mlc.settings import Languages, Validate

from .conftest import Sets, with_text, without

Found = dict[tuple[str, str, str], list[dict[str, Any]]]


def judge(sets: Sets, languages: Languages, validate: Validate) -> tuple[Found, dict[str, list[PromptRow]]]:
    """(set, id, language) -> reasons of what is in quarantine, and the clean rows."""
    frame = add_quality(long_frame(sets, languages.all, "en"), "en", ("alignment", "evaluation"))
    frame["reasons"] = quarantine.reasons(frame, validate, "en", Releases())
    frame["quarantined"] = frame["reasons"].map(bool)
    frame["clean"] = frame["text"].notna() & ~frame["quarantined"]
    found = {(r["set"], r["id"], r["language"]): r["reasons"] for r in quarantine.records(frame)}
    return found, quarantine.clean_rows(frame, sets)


def said(reasons: list[dict[str, Any]]) -> list[str]:
    return [f"{reason['check']}: {reason['message']}" for reason in reasons]


def test_a_good_set_is_left_as_it_is(sets: Sets, languages: Languages, validate: Validate) -> None:
    assert judge(sets, languages, validate) == ({}, sets)


@pytest.mark.parametrize(
    "check, tag, text",
    [
        ("empty", "sw", " ¿? "),
        ("script_share", "zh", "Wo zenme neng zuo zhe jian shi ne"),
        ("length_deviation", "sw", "Ndiyo"),
        ("untranslated", "sw", None),
        ("untranslated", "zh", None),
    ],
)
def test_each_defect_is_named_in_its_language_and_takes_that_variant_alone(
    check: str, tag: str, text: str | None, sets: Sets, languages: Languages, validate: Validate
) -> None:
    good = sets["alignment"][7]
    sets["alignment"][7] = with_text(good, tag, good.prompts["en"].upper() if text is None else text)
    found, clean = judge(sets, languages, validate)
    assert list(found) == [("alignment", good.id, tag)]
    assert check in [reason["check"] for reason in found["alignment", good.id, tag]]
    kept = clean["alignment"][7]
    for field in (kept.prompts, kept.provenance, kept.references):
        assert set(field) == set(good.prompts) - {tag}
    assert clean["alignment"][:7] + clean["alignment"][8:] == sets["alignment"][:7] + sets["alignment"][8:]


def test_a_duplicate_is_quarantined_where_it_repeats(sets: Sets, languages: Languages, validate: Validate) -> None:
    first, second = sets["alignment"][2], sets["alignment"][4]
    assert first.intent == second.intent
    sets["alignment"][4] = with_text(second, "sw", first.prompts["sw"].upper())
    found, _ = judge(sets, languages, validate)
    reason = {"check": "duplicate_of", "value": first.id, "threshold": None, "message": f"{first.id} has the same text"}
    assert found == {("alignment", second.id, "sw"): [reason]}


def test_a_leak_takes_the_alignment_row_whole_and_leaves_the_evaluation(
    sets: Sets, languages: Languages, validate: Validate
) -> None:
    row, judged = sets["alignment"][5], sets["evaluation"][1]
    sets["alignment"][5] = with_text(row, "sw", judged.prompts["sw"])
    found, clean = judge(sets, languages, validate)
    assert set(found) == {("alignment", row.id, tag) for tag in row.prompts}
    assert said(found["alignment", row.id, "sw"]) == [f"leaked_from: evaluation/{judged.id} has the same text"]
    assert said(found["alignment", row.id, "zh"]) == [f"row: its text in sw leaked from evaluation/{judged.id}"]
    assert clean["alignment"] == sets["alignment"][:5] + sets["alignment"][6:]
    assert clean["evaluation"] == sets["evaluation"]


@pytest.mark.parametrize("text, word", [("...", "in quarantine"), (None, "missing")])
def test_a_row_without_a_good_source_text_goes_whole(
    text: str | None, word: str, sets: Sets, languages: Languages, validate: Validate
) -> None:
    row = sets["evaluation"][3]
    sets["evaluation"][3] = without(row, "en") if text is None else with_text(row, "en", text)
    found, clean = judge(sets, languages, validate)
    assert set(found) == {("evaluation", row.id, tag) for tag in sets["evaluation"][3].prompts}
    assert said(found["evaluation", row.id, "bn"]) == [f"row: its text in en is {word}"]
    assert clean["evaluation"] == sets["evaluation"][:3] + sets["evaluation"][4:]


def test_an_other_language_alone_is_no_reason(
    sets: Sets, languages: Languages, validate: Validate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlc.quality.language.identify", lambda _text: "fr")
    assert judge(sets, languages, validate)[0] == {}
