"""Every layout by its own name, and what a call by another name, or without what the layout lacks, says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mlc.cli import app
from mlc.errors import MlcError
from mlc.prompts.importers.layouts import LAYOUTS
from mlc.prompts.schema import read_prompts

from .examples import EXAMPLES, UNREAD, VARIANTS, standard
from .published import GERMAN, polyrefuse_without_key, write_jsonl

PAIRS = [name for name, layout in LAYOUTS.items() if layout.data_set is None]
OF_SETS = [name for name in LAYOUTS if name not in PAIRS]
PAGE = Path(__file__).parents[2] / "docs" / "prompt-sets.md"


def call(layout: str, source: Path, *more: str, language: str = "en") -> str:
    """Runs ``mlc import`` into a set beside the source; the error, or what is printed."""
    into = source.parent / "into.jsonl"
    intent = ("--intent", "harmful") if layout in PAIRS else ()
    arguments = ["import", layout, str(source), "--into", str(into), "--source-language", language, *intent, *more]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0 or type(done.exception) is MlcError, done.exception
    assert done.exit_code == 0 or not into.exists(), "nothing is written"
    return done.stdout if done.exit_code == 0 else str(done.exception)


def test_there_is_an_example_of_every_layout() -> None:
    assert EXAMPLES.keys() == LAYOUTS.keys()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_imported_by_its_name(layout: str, tmp_path: Path) -> None:
    make, rows = EXAMPLES[layout]
    source = make(tmp_path)
    assert f"{rows} added" in call(layout, source)
    (origin, *_) = [row.source for row in read_prompts(source.parent / "into.jsonl")]
    known = LAYOUTS[layout].data_set
    assert origin == (known.name if known else "pairs")


@pytest.mark.parametrize("called", LAYOUTS)
@pytest.mark.parametrize(
    ("layout", "make"), [*((layout, make) for layout, (make, _) in EXAMPLES.items()), *VARIANTS]
)  # fmt: skip
def test_another_layout_is_named(layout: str, make: Callable[[Path], Path], called: str, tmp_path: Path) -> None:
    if layout == called:
        return
    message = call(called, make(tmp_path))
    assert f"looks like {LAYOUTS[layout].title}: use `mlc import {layout}`" in message


@pytest.mark.parametrize(("record", "message"), UNREAD)
@pytest.mark.parametrize("called", ["alpaca", "sharegpt", "trl", "mlc-authors"])
def test_what_is_known_and_not_read_is_named(called: str, record: dict[str, Any], message: str, tmp_path: Path) -> None:
    assert f"a.jsonl looks like {message}" in call(called, write_jsonl(tmp_path / "a.jsonl", [record]))


def test_a_mapping_that_does_not_fit_and_no_layout_at_all_name_it_too(tmp_path: Path) -> None:
    source = EXAMPLES["sharegpt"][0](tmp_path)
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("format: json\nsource: Mine\nintent: harmful\nprompts: {en: english}\n")
    message = call(str(mapping), source)
    assert "no record has the column english" in message and "; " in message
    assert message.endswith("looks like LLaMA-Factory's preference pairs of ShareGPT turns: use `mlc import sharegpt`")
    assert "use `mlc import sharegpt`" in call("llama-factory", source)


@pytest.mark.parametrize("layout", PAIRS)
def test_pairs_need_an_intent_and_the_others_have_one(layout: str, tmp_path: Path) -> None:
    source = EXAMPLES[layout][0](tmp_path)
    done = CliRunner().invoke(app, ["import", layout, str(source), "--into", "x", "--source-language", "en"])
    assert "do not say whether a request is harmful: give --intent harmful or --intent benign" in str(done.exception)
    assert "1 added" in call(layout, source, "--intent", "benign", "--name", "My pairs", "--licence", "CC0-1.0")
    (row,) = read_prompts(tmp_path / "into.jsonl")
    assert (row.intent, row.source) == ("benign", "My pairs")
    assert row.origin and row.origin.licence == "CC0-1.0" and row.id.startswith("my-pairs-")


@pytest.mark.parametrize("layout", OF_SETS)
@pytest.mark.parametrize("option", [("--intent", "benign"), ("--name", "Mine")])
def test_a_published_set_says_its_intent_and_name_itself(layout: str, option: tuple[str, str], tmp_path: Path) -> None:
    assert "says them itself" in call(layout, EXAMPLES[layout][0](tmp_path), *option)


@pytest.mark.parametrize(("layout", "option"), [("trl", "--split"), ("trl", "--config"), ("pku-saferlhf", "--split")])
def test_a_file_has_no_split(layout: str, option: str, tmp_path: Path) -> None:
    assert "is a file; only hub sets have them" in call(layout, EXAMPLES[layout][0](tmp_path), option, "test")


def documented() -> list[tuple[str, str]]:
    """The wrong calls of the page's table, and what they say."""
    rows = re.findall(r"^\| (`mlc import .*?`.*?) \| (.*?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [(command, message) for command, message in rows]


@pytest.mark.parametrize(("command", "message"), documented())
def test_wrong_calls_say_what_the_page_says(command: str, message: str, tmp_path: Path) -> None:
    layout, name, *rest = re.findall(r"`mlc import (.*?)`", command)[0].split()
    sources = {
        "PolyRefuse": lambda: polyrefuse_without_key(tmp_path / "PolyRefuse"),
        "MultiJail.csv": lambda: EXAMPLES["multijail"][0](tmp_path),
        "test.jsonl": lambda: EXAMPLES["mlc-authors"][0](tmp_path),
        "sharegpt.jsonl": lambda: EXAMPLES["sharegpt"][0](tmp_path).rename(tmp_path / name),
        "alpaca.jsonl": lambda: EXAMPLES["alpaca"][0](tmp_path).rename(tmp_path / name),
        "hh.jsonl": lambda: EXAMPLES["hh"][0](tmp_path).rename(tmp_path / name),
        "supervised.json": lambda: write_jsonl(tmp_path / name, [UNREAD[0][0]]),
        "german.jsonl": lambda: write_jsonl(tmp_path / name, [standard(prompt=text) for text in GERMAN]),
        "pairs.jsonl": lambda: EXAMPLES["trl"][0](tmp_path),
    }
    source = sources[name]()
    arguments = ["import", layout, str(source), "--into", str(tmp_path / "into.jsonl"), *rest]
    arguments += [] if "--source-language" in rest else ["--source-language", "en"]
    done = CliRunner().invoke(app, arguments)
    assert type(done.exception) is MlcError
    said = str(done.exception).replace(f"{tmp_path}/", "")
    for part in message.split(" … "):
        assert part.strip("`").replace("&#124;", "|") in said.replace("`", ""), said


def test_the_page_has_wrong_calls() -> None:
    assert len(documented()) >= 8
