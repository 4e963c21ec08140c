"""Hostile texts are shown, and do nothing."""

from __future__ import annotations

import unicodedata

import pytest
from hostile import HOSTILE, Read
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mlc.text import markdown, visible

texts = st.one_of(st.sampled_from(HOSTILE), st.text())


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
    assert read.words.split() == ["head", *f"x{visible(text).strip()}x".split()]
