from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc.languages import identify
from mlc.prompts.schema import PromptRow
from mlc.quality import checks, text_checks

ORDER = ("alignment", "tuning", "evaluation")


def row(row_id: str, intent: str = "benign", **prompts: str) -> PromptRow:
    return PromptRow.model_validate(
        {"id": row_id, "source": "test", "category": "test", "intent": intent, "prompts": prompts}
    )


def frame_of(*rows: PromptRow, tags: tuple[str, ...] = ("en", "es"), **other: list[PromptRow]) -> pd.DataFrame:
    return checks.add_quality(checks.long_frame({"alignment": list(rows), **other}, tags, "en"), "en", ORDER)


def cell(frame: pd.DataFrame, row_id: str, tag: str, column: str) -> object:
    lines = frame[(frame["id"] == row_id) & (frame["language"] == tag)]
    assert len(lines) == 1
    return lines[column].iloc[0]


def test_one_line_per_row_and_language_also_for_missing_ones() -> None:
    frame = checks.long_frame({"alignment": [row("a", en="Hello"), row("b", es="Hola")]}, ("en", "es", "sw"), "en")
    assert list(zip(frame["id"], frame["language"], strict=True)) == [(i, t) for i in "ab" for t in ("en", "es", "sw")]
    assert frame["text"].tolist() == ["Hello", None, None, None, "Hola", None]
    assert frame["source_text"].tolist() == ["Hello"] * 3 + [None] * 3


def test_a_missing_variant_is_unchecked_in_every_column() -> None:
    frame = frame_of(row("a", en="How do I paint a boat?"))
    line = frame[frame["language"] == "es"].iloc[0]
    for column in ("empty", "script_share", "identified", "right_language", "length_deviation", "untranslated"):
        assert pd.isna(line[column]), column
    assert line["duplicate_of"] is None
    assert line["leaked_from"] is None


@pytest.mark.parametrize("text", ["", "   \n", "?!…", "12 + 3 = 15", "\u200b\u200b"])
def test_a_text_without_letters_is_empty_and_otherwise_unchecked(text: str) -> None:
    frame = frame_of(row("a", en="How do I paint a boat?", es=text))
    assert cell(frame, "a", "es", "empty") is True
    assert cell(frame, "a", "en", "empty") is False
    for column in ("script_share", "right_language", "length_deviation"):
        assert pd.isna(cell(frame, "a", "es", column))


def test_script_share_sees_text_in_another_script() -> None:
    frame = frame_of(row("a", en="How do I paint a boat?", ru="Как покрасить лодку boat?"), tags=("en", "ru"))
    assert cell(frame, "a", "ru", "script_share") == pytest.approx(17 / 21)
    assert cell(frame, "a", "en", "script_share") == 1.0


def test_a_language_that_identification_does_not_cover_is_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert identify.covered("es")
    assert not identify.covered("ctg-Beng")
    texts = {"en": "How do I paint a boat?", "ctg-Beng": "নৌকা কেনে রং গইজ্জুম?"}
    frame = frame_of(row("a", **texts), tags=("en", "ctg-Beng"))
    assert cell(frame, "a", "ctg-Beng", "right_language") is None
    assert cell(frame, "a", "ctg-Beng", "other_language") is None
    assert cell(frame, "a", "en", "right_language") is True
    monkeypatch.setattr(identify, "identify", lambda _text: "fr")
    assert cell(frame_of(row("a", **texts), tags=("en", "ctg-Beng")), "a", "en", "right_language") is False


def test_length_deviation_finds_the_text_that_is_cut_off() -> None:
    rows = [row(f"r{n}", en="word " * (10 + n), es="palabra " * (10 + n) + "y" * (n % 3)) for n in range(20)]
    rows.append(row("cut", en="word " * 20, es="palabra palabra"))
    deviations = frame_of(*rows).set_index(["id", "language"])["length_deviation"]
    assert deviations["cut", "es"] < -10
    assert deviations.drop(("cut", "es")).dropna().abs().max() < 2


def test_a_very_regular_set_does_not_make_an_ordinary_row_an_outlier() -> None:
    rows = [row(f"r{n}", en="a" * 50, es="b" * 50) for n in range(20)] + [row("longer", en="a" * 50, es="b" * 65)]
    assert abs(float(cell(frame_of(*rows), "longer", "es", "length_deviation"))) < 3  # type: ignore[arg-type]


def test_each_set_and_language_has_its_own_usual_length() -> None:
    short = [row(f"s{n}", en="word " * 20, zh="词" * 20) for n in range(5)]
    long = [row(f"l{n}", en="word " * 20, zh="词" * 100) for n in range(5)]
    frame = frame_of(*short, tags=("en", "zh"), evaluation=long)
    assert frame.loc[frame["language"] == "zh", "length_deviation"].abs().max() < 1e-6
    assert frame.loc[frame["language"] == "en", "length_deviation"].isna().all()


@pytest.mark.parametrize("copy", ["How do I paint a boat?", "HOW DO I PAINT A BOAT", "  how do I  paint a boat ?!"])
def test_a_copy_of_the_source_is_untranslated_whatever_its_spelling(copy: str) -> None:
    frame = frame_of(row("a", en="How do I paint a boat?", es=copy))
    assert cell(frame, "a", "es", "untranslated") is True
    assert pd.isna(cell(frame, "a", "en", "untranslated"))


def test_mostly_untranslated_counts_only_where_identification_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    source, half = "How do I paint the old boat of my uncle?", "How do I paint the old barco of my tío?"
    assert cell(frame_of(row("a", en=source, es=half)), "a", "es", "untranslated") is True
    monkeypatch.setattr(identify, "identify", lambda _text: "es")
    assert cell(frame_of(row("a", en=source, es=half)), "a", "es", "untranslated") is False


def test_duplicates_name_the_first_row_and_leave_it_clean() -> None:
    first, second = (
        row("a", en="Paint a boat.", es="Pinta un barco."),
        row("b", en="Paint the boat.", es="¡Pinta un barco!"),
    )
    frame = frame_of(first, second)
    assert cell(frame, "b", "es", "duplicate_of") == "a"
    assert frame["duplicate_of"].notna().sum() == 1


def test_the_same_text_in_other_languages_or_sets_is_no_duplicate() -> None:
    frame = frame_of(row("a", en="Banana", es="Banana"), evaluation=[row("b", en="Banana", es="Banana")])
    assert frame["duplicate_of"].isna().all()


def test_one_text_with_two_intents_condemns_both() -> None:
    frame = frame_of(row("a", "harmful", en="Take a boat.", es="Toma."), row("b", en="Drink a tea.", es="Toma."))
    assert cell(frame, "a", "es", "duplicate_of") == "b"
    assert cell(frame, "b", "es", "duplicate_of") == "a"


def test_leaks_go_from_later_sets_into_earlier_ones_only() -> None:
    tuning, evaluation = [row("t", en="Sell a bicycle.")], [row("e", en="Paint a boat."), row("f", en="sell a bicycle")]
    frame = frame_of(row("a", en="paint a boat!"), row("b", en="Sell a bicycle."), tuning=tuning, evaluation=evaluation)
    assert cell(frame, "a", "en", "leaked_from") == "evaluation/e"
    assert cell(frame, "b", "en", "leaked_from") in ("tuning/t", "evaluation/f")
    assert cell(frame, "t", "en", "leaked_from") == "evaluation/f"
    assert frame.loc[frame["set"] == "evaluation", "leaked_from"].isna().all()


@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    once = text_checks.normalise(text)
    assert text_checks.normalise(once) == once
