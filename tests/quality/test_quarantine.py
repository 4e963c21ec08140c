"""From what the checks found to what is in quarantine, why, and what remains. The findings are set by hand here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc.prompts.schema import PromptRow
from mlc.quality import quarantine
from mlc.quality.checks import add_quality, long_frame
from mlc.quality.decisions import Reason, Release, Releases, text_hash
from mlc.settings import Languages, Validate

from .conftest import TAGS, Sets, with_text, without, world_rows

Reasons = dict[tuple[str, str, str], list[dict[str, Any]]]
SETS: Sets = {"alignment": world_rows("alignment", 60), "evaluation": world_rows("evaluation", 40)}


@pytest.fixture(scope="module")
def measured() -> Iterator[pd.DataFrame]:
    yield add_quality(long_frame(SETS, TAGS, "en"), "en", ("alignment", "evaluation"))


@pytest.fixture
def frame(measured: pd.DataFrame) -> pd.DataFrame:
    """The quality columns of a good set."""
    return measured.copy()


def find(frame: pd.DataFrame, key: tuple[str, str, str], column: str, value: object) -> None:
    """Makes a check find something in one variant."""
    line = frame.index[(frame["set"] == key[0]) & (frame["id"] == key[1]) & (frame["language"] == key[2])]
    frame[column] = frame[column].astype(object)
    frame.loc[line, column] = value  # type: ignore[call-overload]


def judge(frame: pd.DataFrame, validate: Validate, *releases: Release) -> tuple[Reasons, dict[str, list[PromptRow]]]:
    """(set, id, language) -> reasons of what is in quarantine, and the clean rows."""
    frame["reasons"] = quarantine.reasons(frame, validate, "en", Releases(releases))
    frame["clean"] = frame["text"].notna() & ~frame["reasons"].map(bool)
    reasons = {(r["set"], r["id"], r["language"]): r["reasons"] for r in quarantine.records(frame)}
    return reasons, quarantine.clean_rows(frame, SETS)


def messages(reasons: list[dict[str, Any]]) -> list[str]:
    return [f"{reason['check']}: {reason['message']}" for reason in reasons]


def test_a_good_set_is_left_as_it_is(frame: pd.DataFrame, validate: Validate) -> None:
    assert judge(frame, validate) == ({}, SETS)


@pytest.mark.parametrize(
    "column, finding, value, setting",
    [
        ("empty", True, None, None),
        ("script_share", 0.25, 0.25, "minimum_script_share"),
        ("length_deviation", -9.5, -9.5, "length_ratio_deviations"),
        ("leakage", 0.75, 0.75, "maximum_leakage"),
        ("untranslated", True, None, None),
        ("duplicate_of", "a2", "a2", None),
    ],
)
def test_a_finding_is_a_reason_with_value_and_threshold_and_takes_that_variant_alone(
    column: str, finding: object, value: object, setting: str | None, frame: pd.DataFrame, validate: Validate
) -> None:
    find(frame, ("alignment", "a7", "sw"), column, finding)
    held, clean = judge(frame, validate)
    assert list(held) == [("alignment", "a7", "sw")]
    (reason,) = held["alignment", "a7", "sw"]
    threshold = setting and getattr(validate, setting)
    assert (reason["check"], reason["value"], reason["threshold"]) == (column, value, threshold)
    assert reason["message"]
    good, kept = SETS["alignment"][7], clean["alignment"][7]
    for field in ("prompts", "provenance", "references"):
        assert getattr(kept, field) == {t: text for t, text in getattr(good, field).items() if t != "sw"}
    assert clean["alignment"][:7] + clean["alignment"][8:] == SETS["alignment"][:7] + SETS["alignment"][8:]


def test_a_threshold_that_is_met_is_no_reason(frame: pd.DataFrame, validate: Validate) -> None:
    find(frame, ("alignment", "a7", "sw"), "script_share", validate.minimum_script_share)
    find(frame, ("alignment", "a7", "sw"), "length_deviation", -validate.length_ratio_deviations)
    find(frame, ("alignment", "a7", "sw"), "leakage", validate.maximum_leakage)
    assert judge(frame, validate)[0] == {}


def test_an_other_language_alone_is_no_reason(frame: pd.DataFrame, validate: Validate) -> None:
    find(frame, ("alignment", "a7", "sw"), "identified", "fr")
    find(frame, ("alignment", "a7", "sw"), "right_language", False)
    assert judge(frame, validate)[0] == {}


def test_what_is_held_is_written_whole(frame: pd.DataFrame, validate: Validate) -> None:
    find(frame, ("evaluation", "e3", "sw"), "untranslated", True)
    judge(frame, validate)
    (record,) = quarantine.records(frame)
    texts = SETS["evaluation"][3].prompts
    assert record == {
        **{"set": "evaluation", "id": "e3", "language": "sw", "part": "prompt"},
        **{"text": texts["sw"], "source_text": texts["en"]},
        "reasons": [Reason("untranslated", None, None, "is the source text, or holds most of its words")._asdict()],
    }


def test_a_leak_takes_the_alignment_row_whole_and_leaves_the_evaluation(
    frame: pd.DataFrame, validate: Validate
) -> None:
    find(frame, ("alignment", "a5", "sw"), "leaked_from", "evaluation/e1")
    held, clean = judge(frame, validate)
    assert set(held) == {("alignment", "a5", tag) for tag in TAGS}
    assert messages(held["alignment", "a5", "sw"]) == ["leaked_from: evaluation/e1 has the same text"]
    assert messages(held["alignment", "a5", "zh"]) == ["row: its text in sw leaked from evaluation/e1"]
    assert clean["alignment"] == SETS["alignment"][:5] + SETS["alignment"][6:]
    assert clean["evaluation"] == SETS["evaluation"]


def test_what_compares_a_text_with_its_translations_never_blames_the_source(
    measured: pd.DataFrame, validate: Validate
) -> None:
    """A source text that fits another row better: its translations do not fit it, and it stays."""
    source = measured[measured["language"] == "en"]
    for column in ("language_margin", "association", "leakage", "length_deviation"):
        assert source[column].isna().all()
    for column in ("misplaced", "untranslated", "lost", "cut_off", "chatter", "retrieved"):
        assert source[column].isna().all()
    large = {"evaluation": world_rows("evaluation", 120)}
    for n, m in ((3, 90), (90, 3)):
        text = world_rows("evaluation", 120)[m].prompts["en"]
        large["evaluation"][n] = with_text(large["evaluation"][n], "en", text)
    swapped = add_quality(long_frame(large, TAGS, "en"), "en", ("evaluation",))
    assert swapped.loc[swapped["language"] != "en", "association"].notna().all()
    reasons = quarantine.reasons(swapped, validate, "en", Releases())
    assert not reasons[swapped["language"] == "en"].map(bool).any()


@pytest.mark.parametrize("missing", [False, True])
def test_a_row_without_a_good_source_text_goes_whole(missing: bool, frame: pd.DataFrame, validate: Validate) -> None:
    if missing:
        sets = SETS | {"evaluation": [without(row, "en") if row.id == "e3" else row for row in SETS["evaluation"]]}
        frame = add_quality(long_frame(sets, TAGS, "en"), "en", ("alignment", "evaluation"))
    else:
        find(frame, ("evaluation", "e3", "en"), "empty", True)
    held, clean = judge(frame, validate)
    assert set(held) == {("evaluation", "e3", tag) for tag in (TAGS[1:] if missing else TAGS)}
    word = "missing" if missing else "in quarantine"
    assert messages(held["evaluation", "e3", "bn"]) == [f"row: its text in en is {word}"]
    assert clean["evaluation"] == SETS["evaluation"][:3] + SETS["evaluation"][4:]


def test_a_released_source_text_brings_its_row_back(frame: pd.DataFrame, validate: Validate) -> None:
    find(frame, ("evaluation", "e3", "en"), "script_share", 0.1)
    find(frame, ("evaluation", "e3", "sw"), "untranslated", True)
    text = text_hash(SETS["evaluation"][3].prompts["en"])
    release = Release(
        **{"set": "evaluation", "id": "e3", "language": "en", "who": "A", "why": "names", "when": datetime.now(UTC)},
        **{"checks": ("script_share",), "sha256": text, "source_sha256": text},
    )
    held, clean = judge(frame, validate, release)
    assert list(held) == [("evaluation", "e3", "sw")]
    assert set(clean["evaluation"][3].prompts) == set(TAGS) - {"sw"}


@settings(deadline=None, max_examples=50)  # the machine may be busy
@given(
    st.lists(
        st.tuples(st.sampled_from(["alignment", "tuning"]), st.sets(st.sampled_from(TAGS))), min_size=1, max_size=8
    ),
    st.integers(1, 3),
)
def test_training_rows_in_too_few_served_languages_go_and_nothing_else(
    rows: list[tuple[str, set[str]]], minimum: int
) -> None:
    languages = Languages(source="en", served=("en", "sw", "zh"), transfer=("bn",))
    lines = [(name, str(n), tag, tag in good, []) for n, (name, good) in enumerate(rows) for tag in TAGS]
    frame = pd.DataFrame(lines, columns=["set", "id", "language", "clean", "reasons"])
    dropped = quarantine.drop_by_rule(frame, languages, minimum)
    for n, (name, good) in enumerate(rows):
        row = frame[frame["id"] == str(n)]
        too_few = name == "alignment" and len(good - {"bn"}) < minimum
        assert set(row["language"][row["clean"]]) == (set() if too_few else good)
        assert set(row["language"][dropped[row.index]]) == (good if too_few else set())
        for tag, reasons in zip(row["language"], row["reasons"], strict=True):
            message = f"its row is good in {len(good - {'bn'})} of the served languages"
            expected = [Reason("minimum_languages", len(good - {"bn"}), minimum, message)]
            assert reasons == (expected if too_few and tag in good else [])
