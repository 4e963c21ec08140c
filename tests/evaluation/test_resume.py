"""What a pass has done survives a kill at any byte, and is never taken for another pass's."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc.evaluation import resume
from mlc.evaluation.resume import finished

VALUES = [["reply", 3, 0.1], ["two\nlines\r and \u2028", 7, 1e-9], ["", 0, float("inf")], ["उत्तर \ud800", 1, 0.25]]


class Pass:
    """Makes the values, and counts how often each was made."""

    def __init__(self) -> None:
        self.computed: list[int] = []

    def __call__(self, done: Collection[int]) -> Iterator[list[tuple[int, list[object]]]]:
        for i in range(len(VALUES)):
            if i not in done:
                self.computed.append(i)
                yield [(i, VALUES[i])]


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_a_kill_at_any_byte_costs_at_most_the_line_it_cut(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pass.jsonl"
        assert resume.run(path, "id", len(VALUES), "pass", Pass()) == dict(enumerate(VALUES))
        content = path.read_bytes()
        cut = data.draw(st.integers(0, len(content)))
        path.write_bytes(content[:cut])
        again = Pass()
        assert resume.run(path, "id", len(VALUES), "pass", again) == dict(enumerate(VALUES))
        whole = max(0, content[:cut].count(b"\n") - 1)
        assert again.computed == list(range(whole, len(VALUES)))
        assert path.read_bytes() == content


@pytest.mark.parametrize("garbage", [b"not json\n", b"[1]\n", b"7\n", b"\xff\xfe\n"])
def test_what_cannot_be_read_is_made_again(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "pass.jsonl"
    resume.run(path, "id", len(VALUES), "pass", Pass())
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1] + garbage + lines[3])
    assert finished(path, "id") == {0: VALUES[0]}
    assert json.loads(path.read_bytes().splitlines()[-1]) == [0, VALUES[0]]


def test_another_pass_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "pass.jsonl"
    resume.run(path, "one", len(VALUES), "pass", Pass())
    assert finished(path, "on") == {}
    assert finished(path, "one") == {}  # the file is the other pass's now


def test_what_is_complete_asks_for_nothing(tmp_path: Path) -> None:
    resume.run(tmp_path / "pass.jsonl", "id", len(VALUES), "pass", Pass())
    again = Pass()
    resume.run(tmp_path / "pass.jsonl", "id", len(VALUES), "pass", again)
    assert not again.computed
