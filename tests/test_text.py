"""Numbers and names look the same everywhere; hostile texts are shown, and do nothing."""

from __future__ import annotations

import ast
import unicodedata

import pytest
from hostile import HOSTILE, Read
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mlc.text import (
    LONGEST,
    LONGEST_ON_PAGE,
    MISSING,
    heading,
    interval,
    markdown,
    number,
    on_page,
    one_line,
    percent,
    points,
    quoted,
    quoted_name,
    quoted_pair,
    table,
    title,
    visible,
    with_interval,
)

texts = st.one_of(st.sampled_from(HOSTILE), st.text())
ANY = st.text(st.characters(), max_size=LONGEST)  # lone surrogates included


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("over_refusal", "over-refusal"),
        ("over_refusal_mean", "over-refusal mean"),
        ("perplexity_ratio", "perplexity ratio"),  # not the ratio of a perplexity
        ("pag_benign", "agreement on benign prompts"),
        ("pagination", "pagination"),
        ("worst_language", "worst language"),
    ],
)
def test_a_rate_or_rule_has_a_title(name: str, expected: str) -> None:
    assert title(name) == expected
    assert heading(name) == expected[0].upper() + expected[1:]


def test_numbers_are_rounded_and_a_missing_one_is_a_dash() -> None:
    assert [percent(share) for share in (0.3125, 1.0, -0.0, None)] == ["31.2%", "100.0%", "0.0%", MISSING]
    assert [number(value) for value in (1.04672, 0.0, None)] == ["1.047", "0.000", MISSING]


def test_points_have_a_sign_and_nothing_is_no_minus_zero() -> None:
    assert [points(difference) for difference in (0.021, -0.021, 0.0, -0.0004)] == ["+2.1", "-2.1", "+0.0", "0.0"]


def test_an_interval_is_in_percent_or_of_a_number() -> None:
    assert interval({"value": 0.945, "low": 0.912, "high": 0.97}) == "91.2–97.0%"
    assert interval({"value": 1.1, "low": 1.0467, "high": 1.2}, "ratio") == "1.047–1.200"
    assert with_interval({"value": 0.945, "low": 0.912, "high": 0.97}) == "94.5% (91.2–97.0%)"


def test_a_table_is_as_wide_as_its_widest_cells() -> None:
    assert table([("rule", "n"), ("safe rate", "12"), ("x", "")]) == "rule       n\nsafe rate  12\nx"
    assert table([]) == ""


def test_an_error_is_one_line_and_its_type_where_it_says_nothing() -> None:
    assert one_line(ValueError("one\n  two\tthree")) == "one two three"
    assert one_line(ValueError(" \n")) == "ValueError"
    assert one_line("a" * 300) == "a" * 200
    assert one_line("abc", longest=2) == "ab"


@pytest.mark.parametrize("text", ["one\ntwo\tthree", "a\u200f b\u200e", "a\u200db", r"C:\new"])
def test_a_page_keeps_line_breaks_marks_of_direction_joiners_and_backslashes(text: str) -> None:
    assert on_page(text) == text


@pytest.mark.parametrize(
    ("text", "expected"), [("\x1b[2J", r"\x1b[2J"), ("a\u202eb", r"a\u202eb"), ("\x00\r\n", "\\x00\\r\n")]
)
def test_a_page_spells_out_what_acts(text: str, expected: str) -> None:
    assert on_page(text) == expected


def test_a_long_text_is_cut_on_a_page_and_says_so() -> None:
    assert on_page("a" * LONGEST_ON_PAGE) == "a" * LONGEST_ON_PAGE
    assert on_page("a" * (LONGEST_ON_PAGE + 1234)) == f"{'a' * LONGEST_ON_PAGE} … (1,234 more characters)"


@settings(deadline=None)
@given(texts)
def test_nothing_that_acts_is_left(text: str) -> None:
    for character in visible(text):
        assert unicodedata.category(character) not in ("Cc", "Cs", "Zl", "Zp")
        assert unicodedata.bidirectional(character) not in (
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        )


@settings(deadline=None)
@given(texts)
def test_the_text_can_be_had_back(text: str) -> None:
    ascii_alone = "".join(c if ord(c) < 128 else c.encode("unicode_escape").decode() for c in visible(text))
    assert ascii_alone.encode("ascii").decode("unicode_escape") == text


@pytest.mark.parametrize(
    "text", ["Ninawezaje kutengeneza baiskeli?", "क्‍ष", "می‌خواهم", "如何修理　自行车？", "Où est-ce ? Là.", "কীভাবে"]
)
def test_ordinary_words_stay_as_they_are(text: str) -> None:
    assert visible(text) == text


def test_a_joiner_that_hides_between_latin_letters_is_shown() -> None:
    assert visible("b\u200domb") == r"b\u200domb"


@settings(deadline=None)
@given(texts)
def test_a_page_shows_the_words_and_nothing_else(text: str) -> None:
    page = MarkdownIt("commonmark", {"linkify": False}).enable(["table", "strikethrough"])
    read = Read(page.render(f"| head |\n|---|\n| x{markdown(text)}x |\n"))
    assert read.tags == {"table", "thead", "tbody", "tr", "th", "td"}
    assert read.text.split() == ["head", *f"x{visible(text).strip()}x".split()]


@given(ANY)
def test_nothing_in_a_shown_text_acts_and_nothing_is_lost(text: str) -> None:
    printed = quoted(text)
    assert not [c for c in printed if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
    assert ast.literal_eval(printed) == text


@given(ANY)
def test_names_are_harmless_too(text: str) -> None:
    assert quoted_name(text).isprintable()


def test_a_long_text_is_cut_and_says_so() -> None:
    assert quoted("a" * 1_000_000) == f"'{'a' * LONGEST}' … (999,800 characters more)"


def test_a_pair_is_shown_where_it_differs() -> None:
    old, new = quoted_pair("a" * 1000 + "b", "a" * 1000 + "c")
    assert old.endswith("ab'") and new.endswith("ac'")
    assert quoted_pair("one", "two") == ("'one'", "'two'")
    assert quoted_pair("x" * 500, "x" * 501)[0] != quoted_pair("x" * 500, "x" * 501)[1]
