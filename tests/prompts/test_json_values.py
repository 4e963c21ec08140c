"""JSON and JSON Lines are told apart by content; what is malformed is refused with its place and what to do."""

from __future__ import annotations

import codecs
import gzip
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc.errors import MlcError
from mlc.prompts.importers.json_values import json_values
from mlc.prompts.importers.records import Source, read, read_any

VALUES = [{"a": "x"}, {"a": "y\nz"}, {"a": {"b": ["]"]}}]
LINES = [json.dumps(value) for value in VALUES]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(VALUES),
        json.dumps(VALUES, indent=2),
        f"\n {json.dumps(VALUES)} \n\n",
        "\n".join(LINES),
        "\n".join(LINES) + "\n\n \n",
        "\r\n".join(LINES) + "\r\n",
        "".join(LINES),
        " ".join(LINES),
        "\n".join(json.dumps(value, indent=2) for value in VALUES),
        "\n\n".join(LINES),
        "\ufeff".join(f"{line}\n" for line in LINES),
    ],
)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.txt"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_the_content_decides_whatever_the_name(text: str, name: str, mark: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(mark + text.encode())
    for records in (read_any(Source(str(path))), read(Source(str(path)), "json"), read(Source(str(path)), "jsonl")):
        assert [record.fields for record in records] == VALUES


def test_a_place_is_a_record_of_a_list_and_a_line_of_lines() -> None:
    path = Path("a")
    assert [where for where, _ in json_values(json.dumps(VALUES), path)] == [f"a, record {n}" for n in (1, 2, 3)]
    assert [where for where, _ in json_values("\n\n".join(LINES), path)] == [f"a, line {n}" for n in (1, 3, 5)]
    assert [where for where, _ in json_values('{"a": 1} {"a":\n2}{}', path)] == [
        "a, line 1", "a, line 1, column 10", "a, line 2, column 3",
    ]  # fmt: skip
    assert list(json_values("[]", path)) == list(json_values("  ", path)) == []


OBJECT = st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.lists(st.text(max_size=5), max_size=3))


@settings(max_examples=50)
@given(st.lists(OBJECT, min_size=1, max_size=4), st.sampled_from([None, 1]), st.booleans())
def test_any_objects_come_back(values: list[object], indent: int | None, ascii_only: bool) -> None:
    one = json.dumps(values, indent=indent, ensure_ascii=ascii_only)
    lines = "\n".join(json.dumps(value, indent=indent, ensure_ascii=ascii_only) for value in values)
    for text in (one, lines):
        assert [value for _, value in json_values(text, Path("a"))] == values


# By what is wrong; the page on prompt sets shows most of them.
MALFORMED: dict[str, tuple[bytes, str]] = {
    "nothing in it": (b"", "is empty"),
    "blank lines alone": (b" \n" * 5000, "is empty"),
    "lines, cut off in an object": (
        b'{"a": "x"}\n{"a": "y"',
        "line 2, column 10: not JSON (Expecting ',' delimiter); the file ends there: was it cut off?",
    ),
    "lines, cut off in a text": (b'{"a": "x"}\n{"a": "y', "line 2, column 7: not JSON (Unterminated string"),
    "a list, cut off": (b'[{"a": "x"}, {"a": "y"}', "line 1, column 24: the list is not closed: the file was cut off"),
    "a list without a comma": (
        b'[{"a": "x"}\n {"a": "y"}]',
        "line 2, column 2: not JSON (a comma or ] has to follow record 1)",
    ),
    "lines with commas": (
        b'{"a": "x"},\n{"a": "y"}',
        "line 1, column 11: a comma between objects: take it out, or put all in [ ]",
    ),
    "two lists": (
        b'[{"a": "x"}]\n[{"a": "y"}]',
        "line 2, column 1: something follows the list: a file holds one list, or one object per line",
    ),
    "a line break in a text": (
        b'{"a":\n "x\ny"}',
        "line 2, column 4: not JSON (Invalid control character at); the record begins in line 1",
    ),
    "Python's quotes": (
        b"{'a': 'x'}",
        "line 1, column 2: not JSON (Expecting property name enclosed in double quotes)",
    ),
    "a field twice": (
        b'{"a": "x"}\n\n{"a": 1, "a": 2}',
        "the record that begins in line 3: field 'a' stands twice in one object",
    ),
    "a list among objects": (b'{"a": "x"}\n["y"]', "line 2: an object with named fields is needed, not \"['y']\""),
    "lists in a list": (b'[["x"]]', "record 1: an object with named fields is needed"),
    "semicolons for commas": (
        b"a;b\nx;y\n",
        "is neither JSON, JSON Lines, CSV with a header nor Parquet: it begins 'a;b\\nx;y\\n'",
    ),
    "a cell too many": (b"a,b\nx,y,z\n", "line 2: 3 cells, but the header names 2 columns"),
    "UTF-16": ('[{"a": "x"}]'.encode("utf-16"), "line 1: byte 0 is not UTF-8: save the file as UTF-8"),
    "Latin-1": (b'{"a": "x"}\n{"a": "\xe9"}', "line 2: byte 18 is not UTF-8: save the file as UTF-8"),
    "gzip, cut off": (gzip.compress(b'[{"a": "x"}]')[:-9], "is not a whole gzip file"),
    "Parquet, cut off": (b"PAR1 and no more", "is not a readable Parquet file"),
}
PAGE = Path(__file__).parents[2] / "docs" / "prompt-sets.md"


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_file_is_refused_with_the_place(what: str, tmp_path: Path) -> None:
    content, message = MALFORMED[what]
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(MlcError) as error:
        list(read_any(Source(str(path))))
    assert str(error.value).startswith(str(path)) and message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_page_shows_what_is_said() -> None:
    shown = dict(re.findall(r"^\| (.*?) \| `(.*?)` \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert len(shown.keys() & MALFORMED.keys()) >= 10
    for what in shown.keys() & MALFORMED.keys():
        assert MALFORMED[what][1] in shown[what], what


def test_what_is_blank_at_first_is_read_on(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("\n" * 5000 + "\n".join(LINES))
    assert [record.fields for record in read_any(Source(str(tmp_path / "a")))] == VALUES


def test_a_file_that_is_not_there_is_no_set_of_the_hub(tmp_path: Path) -> None:
    with pytest.raises(MlcError, match=r"none\.jsonl does not exist"):
        list(read_any(Source(str(tmp_path / "none.jsonl"), split="train")))
