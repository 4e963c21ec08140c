"""Hostile texts are shown, and do nothing."""

from __future__ import annotations

import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mlc.escape import markdown, visible

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\x1b[2J\x1b]0;title\x07",
    "a\u202egnp.exe",
    "\u2066isolated\u2069",
    "one\ntwo\r\nthree\u2028four",
    "=cmd|'/c calc'!A1",
    "[click](javascript:alert(1)) ![](https://example.org/x.png) <https://example.org>",
    "| a | b |\n|---|---|\n# title",
    "`code` **bold** _it_ ~~gone~~ $x^2$ :smile: www.example.org https://example.org a@example.org",
    "&lt;script&gt; &#60;b&#62;",
    "\ud800 lone",
    "\\x1b is not an escape",
]
texts = st.one_of(st.sampled_from(HOSTILE), st.text())


class Read(HTMLParser):
    """The tags and the words of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.words = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, _attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


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


@given(texts)
def test_a_page_shows_the_words_and_nothing_else(text: str) -> None:
    page = MarkdownIt("commonmark", {"linkify": False}).enable(["table", "strikethrough"])
    read = Read(page.render(f"| head |\n|---|\n| x{markdown(text)}x |\n"))
    assert read.tags == {"table", "thead", "tbody", "tr", "th", "td"}
    assert read.words.split() == ["head", *f"x{visible(text).strip()}x".split()]
