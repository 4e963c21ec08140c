"""A limit on a share: what is surely past it, and what may be chance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlc.quality.limits import share_bounds, tolerated


@given(st.integers(1, 3000), st.floats(0, 1), st.data())
def test_what_is_tolerated_is_what_the_interval_does_not_exclude(lines: int, limit: float, data: st.DataObject) -> None:
    most = tolerated(limit, lines)
    assert 0 <= most <= lines
    failing = data.draw(st.integers(0, lines))
    low, high = share_bounds(failing, lines)
    assert low <= failing / lines <= high
    if abs(low - limit) > 1e-9:
        assert (failing > most) == (low > limit)


@pytest.mark.parametrize("lines, most", [(1, 0), (24, 2), (240, 9), (2000, 53)])
def test_two_percent_of_few_texts_says_little(lines: int, most: int) -> None:
    assert tolerated(0.02, lines) == most


def test_what_may_not_be_at_all_is_not_tolerated_once_and_what_may_always_be_is() -> None:
    assert tolerated(0.0, 10_000) == 0
    assert tolerated(1.0, 50) == 50


def test_no_line_says_nothing() -> None:
    assert share_bounds(0, 0) == (0.0, 1.0)
