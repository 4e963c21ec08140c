"""Malformed files are refused with the place of the mistake; odd texts arrive as they are."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc.errors import MlcError
from mlc.prompts.importers.records import Format, Record, Source, read

TEXT = st.text(st.characters(codec="utf-8"))
ODD = [
    "=cmd('x')", "<script>alert(1)</script>", "a\x00b", "\u202eevil\u202c", "line\nbreak", 'quo"te,comma',
    "x" * 1_000_000,
]  # fmt: skip


def records(path: Path, form: Format) -> list[Record]:
    return list(read(Source(str(path)), form))


@pytest.mark.parametrize(
    ("content", "form", "message"),
    [
        ('[{"a": "x"},\n {"a": ]', "json", "line 2, column 8: not JSON"),
        ('[{"a": "x"}, "y"]', "json", "record 2: an object with named fields is needed, not 'y'"),
        ('[{"a": "x", "a": "y"}]', "json", "field 'a' stands twice"),
        ("[" * 100_000, "json", "recursion"),
        ('{"a": "x"}\n\n{"a" "y"}', "jsonl", "line 3, column 6: not JSON"),
        ('{"a": "x"}\n7', "jsonl", "line 2: an object with named fields is needed, not '7'"),
        ("a,b\n1,2\n3\n", "csv", "line 3: 1 cells, but the header names 2 columns"),
        ('a,b\n"1\n1",2\n3,4,5\n', "csv", "line 4: 3 cells, but the header names 2 columns"),
        ('a,b\n1,2\n"3,4\n5,6\n', "csv", "the record that begins in line 3: not CSV"),
        ('a,b\n1,"2"x\n', "csv", "the record that begins in line 2: not CSV"),
        ("a,a\n1,2\n", "csv", "line 1: column 'a' stands twice"),
        ("", "csv", "the first line has to name the columns"),
        ("no parquet", "parquet", "is not a readable Parquet file"),
        (b"a\nb\xff\n".decode("latin-1"), "csv", None),
    ],
)
def test_a_malformed_file_is_refused_with_the_place(
    content: str, form: Format, message: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "source"
    path.write_bytes(content.encode() if message else content.encode("latin-1"))
    with pytest.raises(MlcError) as error:
        records(path, form)
    assert str(path) in str(error.value)
    assert (message or "line 2: byte 3 is not UTF-8") in str(error.value)


@pytest.mark.parametrize("form", ["json", "jsonl", "csv", "parquet"])
def test_a_missing_file_is_refused(form: Format, tmp_path: Path) -> None:
    with pytest.raises(MlcError, match="does not exist"):
        records(tmp_path / "none", form)


@settings(max_examples=50)
@given(st.lists(TEXT, min_size=1), st.booleans())
def test_any_text_arrives_as_it_is(tmp_path_factory: pytest.TempPathFactory, texts: list[str], mark: bool) -> None:
    folder = tmp_path_factory.mktemp("any")
    start = "\ufeff" if mark else ""
    with (folder / "c.csv").open("w", encoding="utf-8", newline="") as file:
        file.write(start)
        csv.writer(file).writerows([["n", "text"], *([str(n), text] for n, text in enumerate(texts))])
    (folder / "c.jsonl").write_text(start + "\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    (folder / "c.json").write_text(start + json.dumps([{"text": text} for text in texts]), encoding="utf-8")
    for form in ("csv", "jsonl", "json"):
        assert [r.fields["text"] for r in records(folder / f"c.{form}", form)] == texts  # type: ignore[arg-type]


def test_parquet_arrives_as_it_is(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"text": ODD}), tmp_path / "c.parquet")
    read_back = records(tmp_path / "c.parquet", "parquet")
    assert [r.text("text") for r in read_back] == ODD
    assert read_back[2].where == f"{tmp_path / 'c.parquet'}, row 3"


@pytest.mark.parametrize("text", ODD)
def test_odd_texts_are_texts(text: str) -> None:
    assert Record("here", {"prompt": text}).text("prompt") == text


def test_half_a_surrogate_pair_is_refused_with_its_place() -> None:
    broken = json.loads('"abc\\ud800"')
    with pytest.raises(MlcError, match="here, field 'prompt': character 4 is half of a surrogate"):
        Record("here", {"prompt": broken}).text("prompt")


@pytest.mark.parametrize("value", [None, "", " \n"])
def test_blank_is_no_text(value: str | None) -> None:
    assert Record("here", {"prompt": value}).text("prompt") is None
    assert Record("here", {}).text("prompt") is None


@pytest.mark.parametrize("value", [3, 2.5, ["x"], {"x": "y"}, True])
def test_another_kind_of_value_is_no_text(value: object) -> None:
    with pytest.raises(MlcError, match="a text is needed"):
        Record("here", {"prompt": value}).text("prompt")


def test_a_hub_set_needs_its_commit_and_a_split() -> None:
    with pytest.raises(MlcError, match=r"which split"):
        list(read(Source("lab/set", revision="0" * 40), "hub"))
    for revision in (None, "main", "v1.0"):
        with pytest.raises(MlcError, match="needs --revision, its commit"):
            list(read(Source("lab/set", revision=revision, split="train"), "hub"))
