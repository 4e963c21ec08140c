from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc.quality import text_checks


@pytest.mark.parametrize(
    "text, tag, expected",
    [
        ("How do I \u202epaint a boat?", "en", "U+202E RIGHT-TO-LEFT OVERRIDE"),
        ("\u2066Paint\u2069", "en", "U+2066 LEFT-TO-RIGHT ISOLATE"),
        ("Paint\x00 a boat", "en", "U+0000 control"),
        ("Paint\x1b[31m a boat", "en", "U+001B control"),
        ("\ufeffPaint", "en", "U+FEFF ZERO WIDTH NO-BREAK SPACE"),
        ("Paint\U000e0041\U000e0042", "en", "U+E0041 TAG LATIN CAPITAL LETTER A"),
        ("Pain\ufffdt", "en", "U+FFFD REPLACEMENT CHARACTER"),
        ("Paint \ue000", "en", "U+E000 private or unassigned"),
        ("pa\u200bint", "en", "U+200B ZERO WIDTH SPACE"),
        ("pa\u200b\u200bint", "en", "U+200B ZERO WIDTH SPACE"),
        ("een \u200b\u200bboot", "nl", ""),  # what machine translation leaves; it hides and parts nothing
        ("\u200bPaint a boat\u200b", "en", ""),
        ("ทาสี\u200bเรือ", "th", ""),  # where a line may break
        ("می\u200cخواهم", "fa", ""),  # spelling
        ("क\u094d\u200dष", "hi", ""),
        ("\u200fשלום\u200e OK", "he", ""),  # marks of direction that every editor writes
        ("Two\nlines\tand\r\na tab, a soft\u00adhyphen", "en", ""),
        ("👨‍👩‍👧 and 🏴󠁧󠁢󠁳󠁣󠁴󠁿", "en", ""),
    ],
)
def test_what_nobody_sees_is_found_and_spelling_is_not(text: str, tag: str, expected: str) -> None:
    assert text_checks.control_characters([text, None], tag) == [expected, None]


@pytest.mark.parametrize("text", ["¿Cómo pinto un barco?", "Как покрасить лодку?", "怎么给船上漆？", "कैसे रंगूँ नाव को?"])
@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "cp1251"])
def test_a_wrong_encoding_is_seen_and_a_right_one_is_not(text: str, encoding: str) -> None:
    assert text_checks.mojibake([text]) == [False]
    assert text_checks.mojibake([text.encode().decode(encoding, errors="replace")]) == [True]


def test_a_loop_is_repetition_and_what_the_source_repeats_is_not() -> None:
    loop = "Pinta el barco " + "del tío " * 20
    assert text_checks.repetition([loop], ["Paint my uncle's boat"])[0] == pytest.approx(0.9, abs=0.08)
    assert text_checks.repetition([loop], ["Paint the boat " + "of uncle " * 20])[0] == pytest.approx(0, abs=0.05)
    assert text_checks.repetition(["Pinta el barco de mi tío."], ["Paint my uncle's boat."]) == [0.0]


@given(st.lists(st.one_of(st.none(), st.text(max_size=60)), max_size=4))
def test_a_null_is_never_checked_and_everything_else_is(texts: list[str | None]) -> None:
    sources = [None] * len(texts)
    for column in (
        text_checks.empty(texts),
        text_checks.characters(texts),
        text_checks.control_characters(texts, "en"),
        text_checks.mojibake(texts),
        text_checks.repetition(texts, sources),
    ):
        assert [value is None for value in column] == [text is None for text in texts]
