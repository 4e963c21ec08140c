from __future__ import annotations

import ast
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from mlc.text import LONGEST, quoted, quoted_name, quoted_pair

ANY = st.text(st.characters(), max_size=LONGEST)  # lone surrogates included


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
