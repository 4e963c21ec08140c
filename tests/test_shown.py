from __future__ import annotations

import ast
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from mlc.escape import LONGEST, shown, shown_name, shown_pair

ANY = st.text(st.characters(), max_size=LONGEST)  # lone surrogates included


@given(ANY)
def test_nothing_in_a_shown_text_acts_and_nothing_is_lost(text: str) -> None:
    printed = shown(text)
    assert not [c for c in printed if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
    assert ast.literal_eval(printed) == text


@given(ANY)
def test_names_are_harmless_too(text: str) -> None:
    assert shown_name(text).isprintable()


def test_a_long_text_is_cut_and_says_so() -> None:
    assert shown("a" * 1_000_000) == f"'{'a' * LONGEST}' … (999,800 characters more)"


def test_a_pair_is_shown_where_it_differs() -> None:
    old, new = shown_pair("a" * 1000 + "b", "a" * 1000 + "c")
    assert old.endswith("ab'") and new.endswith("ac'")
    assert shown_pair("one", "two") == ("'one'", "'two'")
    assert shown_pair("x" * 500, "x" * 501)[0] != shown_pair("x" * 500, "x" * 501)[1]
