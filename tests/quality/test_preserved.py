"""What a translation must keep: a text keeps all of its own, and everything taken away is named."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlc.quality.preserved import lost

PIECES = ["{name}", "{{ user }}", "${HOME}", "{0:.2f}", "%s", "%(count)d", "%.2f", "<b>", "</b>", "<br/>", "[NAME]"]
PIECES += ["`rm -i x1`", "```\ncode 7\n```", "https://example.org/a?b=1", "me@example.org", "@alice", "#tag", "my_file"]
NUMBERS = ["5", "1,234", "1,234.5", "0.25", "12,34,567", "2024", "3.11.2", "10:30"]
WORDS = st.lists(
    st.sampled_from(["how", "to", "repair", "a", "bicycle,", "wie", "mtu?", "কী", "怎么"]), max_size=4
).map(" ".join)
SCRIPTS = [0x0660, 0x06F0, 0x0966, 0x09E6, 0x0E50, 0xFF10]  # the zeros of Arabic, Persian, Devanagari, Bengali, Thai...


def in_digits(text: str, zero: int) -> str:
    return "".join(chr(zero + int(c)) if c.isdecimal() else c for c in text)


@settings(deadline=None)
@given(
    st.text(
        st.characters(exclude_categories=["Cs"]) | st.sampled_from("0123456789.,' {}%<>`@#_/:httpsaB万十"), max_size=60
    )
)
@example("1,234 1.234 1 234 https://a.b, https://a.b/c. {a} {{a}} %s%d 5 000 5000 aB a_b")
def test_a_text_keeps_all_of_its_own(text: str) -> None:
    assert lost(text, text) == []


@settings(deadline=None)
@given(st.lists(st.tuples(WORDS, st.sampled_from(PIECES + NUMBERS)), min_size=1, max_size=5), st.data())
def test_pieces_may_move_but_not_go(parts: list[tuple[str, str]], data: st.DataObject) -> None:
    source = " ".join(f"{words} {piece} ." for words, piece in parts)
    pieces = [piece for _, piece in parts]
    moved = data.draw(st.permutations(pieces))
    assert lost(source, " — ".join(moved)) == []
    without = " — ".join(moved[1:])
    lost_pieces = "".join(lost(source, without))
    assert lost_pieces and set(lost_pieces) <= set(moved[0])
    assert "".join(lost(source, "nichts")).replace("7", "") != ""


@settings(deadline=None)
@given(st.sampled_from(SCRIPTS), st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=4))
def test_numerals_of_any_script_are_equal(zero: int, numbers: list[str]) -> None:
    source = " and ".join(numbers)
    assert lost(source, in_digits(source, zero)) == []
    assert lost(in_digits(source, zero), source) == []
    assert lost(source, in_digits(" and ".join(numbers[1:]), zero)) != []


@settings(deadline=None)
@given(st.integers(1000, 10**9), st.integers(0, 99))
def test_separators_are_a_matter_of_the_language(whole: int, cents: int) -> None:
    english = f"{whole:,}.{cents:02d}"
    for point, group in ((",", "."), (",", " "), (",", "\u202f"), (".", "'"), (".", ""), ("٫", "٬")):
        other = f"{whole:,}".replace(",", group) + f"{point}{cents:02d}"
        assert lost(english, other) == [], other
        assert lost(english, other.replace(str(whole)[0], "", 1)) != []


@pytest.mark.parametrize(
    ("source", "translation", "missing"),
    [
        ("I need 30 days and 12 men", "我需要三十天和十二个人", []),
        ("20,500 in 2024", "二零二四年的两万零五百", []),
        ("30 days", "三天", ["30"]),
        ("on 12.05.2024", "12 / 5 / 2024", []),
        ("at 10:30", "um 10.30 Uhr", []),
        ("3 and 3", "3", ["3"]),
        ("3.5 grams", "35 Gramm", ["3.5"]),
        ("1,234 pages", "1.23 páginas", ["1,234"]),
        ("50% of it", "el 50 %", []),
        ("room 007", "Zimmer 7", []),
        ("see https://example.org/a.", "见https://example.org/a。", []),
        ("see https://example.org", "véase https://example.org/es", ["https://example.org"]),
        ("see https://bn.example.org/wiki/বাংলা now", "দেখুন https://bn.example.org/wiki/বাংলা", []),
        ("run `ls -1`", "ejecuta 'ls -1'", ["`ls -1`"]),
        ("{name} has {n} <b>cats</b>", "{nombre} tiene {n} <b>gatos<b>", ["{name}", "</b>"]),
        ("{a} {a}", "{a}", ["{a}"]),
        ("why is TensorFlow slow", "por qué es lento Tensor Flow", ["TensorFlow"]),
        ("why is TensorFlow slow", "কেন টেনসরফ্লো ধীর", []),
        ("if a < b and c > d", "si a < b y c > d", []),
        ("C# and F#", "C# y F#", []),
        ("nothing special", "nada", []),
        ("", "", []),
    ],
)
def test_examples(source: str, translation: str, missing: list[str]) -> None:
    assert lost(source, translation) == missing


def test_names_that_are_given_stay_to_the_letter() -> None:
    assert lost("Ask Acme about Acme", "Acme'ye sor", names=["Acme"]) == ["Acme"]
    assert lost("Ask Acme", "Acme'ye sor", names=["Acme", "Other"]) == []
    assert lost("Ask TensorFlow", "টেনসরফ্লো", names=["TensorFlow"]) == ["TensorFlow"]
    assert lost("Ask TensorFlow", "TensorFlow'a sor", names=["TensorFlow"]) == []


@pytest.mark.parametrize(
    "piece", ["a", "1,", "1 234 ", "{", "{a", "`", "a@", "a.", "https://a", "%(", "<a ", "[A", "a_", "aB", "万"]
)
def test_no_text_makes_it_hang(piece: str) -> None:
    started = time.perf_counter()
    assert lost(piece * 3000, piece * 3000) == []
    assert time.perf_counter() - started < 10
