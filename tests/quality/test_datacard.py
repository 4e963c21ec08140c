"""The datacard: what it says is what the sets hold, the hub takes its metadata, and nothing in it acts."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hostile import HOSTILE, Read
from huggingface_hub import DatasetCard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from mlc.prompts.schema import Origin, PromptRow, Provenance
from mlc.quality import datacard
from mlc.quality.decisions import NEVER_RELEASED, Fix, Release, text_hash
from mlc.settings import Languages
from mlc.text import visible

LANGUAGES = Languages(source="en", served=("en", "zh-Hant"), transfer=("bn",))
WHEN = datetime(2026, 1, 2, tzinfo=UTC)


def row(number: int = 0, **changes: Any) -> PromptRow:
    fields: dict[str, Any] = {"id": f"x{number}", "source": "world", "category": "home", "intent": "benign"}
    return PromptRow(**{**fields, "prompts": {"en": "Paint a boat.", "bn": "নৌকা রং করো।"}, **changes})


def language(**changes: Any) -> dict[str, Any]:
    counts = dict.fromkeys(("variants", "clean", "quarantined", "dropped_by_rule", "released", "missing"), 0)
    return {**counts, "coverage": 0.5, "unchecked": [], "reasons": {}, **changes}


def metrics(**of: dict[str, Any]) -> dict[str, Any]:
    rows = {"read": 3, "clean": 2, "dropped_by_rule": 1, "kept_incomplete": 1}
    return {
        "passed": True,
        "expectations": {"evaluated": 7, "failed": 0, "warned": 0},
        "rows": {"alignment": rows},
        "dropped": {"alignment": {}},
        "replies": {},
        "alignment": {"en": language(), "bn": language()} | of,
    }


def release(**changes: Any) -> Release:
    fields: dict[str, Any] = {"set": "alignment", "id": "x0", "language": "bn", "who": "Amina", "why": "a name"}
    fields |= {"when": WHEN, "checks": ("untranslated",), "sha256": text_hash("a"), "source_sha256": text_hash("b")}
    return Release(**{**fields, **changes})


def written(folder: Path, rows: list[PromptRow], quality: dict[str, Any] | None = None, **changes: Any) -> str:
    contents = datacard.Contents()
    for one in rows:
        contents.add("alignment", one)
    given: dict[str, Any] = {
        "failures": [],
        "warnings": [],
        "releases": [],
        "stale": [],
        "fixes": [],
        "files": {"a.jsonl": "0" * 64},
    }
    path = folder / "datacard.md"
    datacard.write(
        path, contents, quality or metrics(), **{**given, **changes}, languages=LANGUAGES, minimum_languages=2
    )
    return path.read_text(encoding="utf-8")


def tables(card: str) -> dict[tuple[str, ...], list[list[str]]]:
    """Head of each table -> its rows, as a Markdown reader shows them."""
    page = MarkdownIt("commonmark").enable("table")
    rows_by_head: dict[tuple[str, ...], list[list[str]]] = {}
    lines: list[list[str]] = []
    for token in page.parse(card):
        if token.type == "table_open":
            lines = []
        elif token.type == "tr_open":
            lines.append([])
        elif token.type == "inline" and lines and token.level > 3:
            lines[-1].append("".join(child.content for child in token.children or []))
        elif token.type == "table_close":
            rows_by_head[tuple(lines[0])] = lines[1:]
            lines = []
    return rows_by_head


def test_the_hub_takes_the_metadata(tmp_path: Path) -> None:
    rows = [
        row(0, source="org/one", origin=Origin(licence="CC-BY-4.0", sha256="0" * 64)),
        row(1, source="org/two", origin=Origin(licence="ODC-By-1.0", sha256="0" * 64)),
        row(2, source="org/two", origin=Origin(licence="Our-Own-1.0", sha256="0" * 64)),
        row(3),
    ]
    data: Any = DatasetCard(written(tmp_path, rows)).data
    assert data.language == ["en", "zh", "bn"]
    assert data.language_details == ["en", "zh-Hant", "bn"]
    assert data.license == ["cc-by-4.0", "odc-by", "other", "unknown"]
    assert data.source_datasets == ["org/one", "org/two", "world"]
    assert data.size_categories == ["n<1K"]
    assert data.pretty_name
    licensed = [row(0, origin=Origin(licence="MIT", sha256="0" * 64))]
    data = DatasetCard(written(tmp_path, licensed)).data
    assert data.license == "mit"


@pytest.mark.parametrize(
    "rows, word", [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**7, "n>10M")]
)
def test_sizes_are_the_hub_s(rows: int, word: str) -> None:
    contents = datacard.Contents()
    contents.add("alignment", row())
    contents.rows["alignment"] = rows
    assert f"\n- {word}\n" in datacard._metadata(contents, LANGUAGES)


def test_it_says_what_the_sets_hold(tmp_path: Path) -> None:
    origin = Origin(licence="MIT", revision="abc", sha256="0" * 64)
    by = {
        "bn": Provenance(translator="nllb", version="3", licence="CC-BY-NC-4.0"),
        "en": Provenance(translator="human"),
    }
    unnamed = {"bn": Provenance(translator="gpt"), "en": Provenance(translator="world")}
    rows = [
        row(0, origin=origin, provenance=by),
        row(1, origin=origin, provenance=by),
        row(2, intent="harmful", provenance=unnamed),
    ]
    bengali = language(variants=3, clean=1, quarantined=2, released=1, unchecked=["misplaced", "cut_off"])
    quality = metrics(bn=bengali | {"reasons": {"untranslated": 2, "lost": 1}})
    quality["dropped"]["alignment"] = {"fr": 4}
    fix = Fix(
        **{"set": "alignment", "id": "x1", "language": "en", "who": "Ben", "why": "a typo", "when": WHEN},
        **{"before": None, "after": "Paint a boat.", "provenance": None, "back_translation": None},
    )
    stale = release(id="x1")
    card = written(tmp_path, rows, quality, releases=[release(), stale], stale=[stale], fixes=[fix])
    rows_by_head = tables(card)
    assert rows_by_head["set", "rows", "clean", "dropped by rule", "incomplete", "harmful", "benign"] == [
        ["alignment", "3", "2", "1", "1", "1", "2"]
    ]
    columns = ("texts", "clean", "in quarantine", "dropped by rule", "released", "missing", "coverage")
    assert rows_by_head["set", "language", *columns][1] == ["alignment", "bn", "3", "1", "2", "0", "1", "0", "50.0%"]
    assert rows_by_head["set", "language", "texts"] == [["alignment", "fr", "4"]]
    assert rows_by_head["check", "set", "language", "texts"] == [
        ["untranslated", "alignment", "bn", "2"],
        ["lost", "alignment", "bn", "1"],
    ]
    assert rows_by_head["set", "language", "checks without power"] == [["alignment", "bn", "misplaced, cut_off"]]
    decided = ["alignment", "x0", "bn", "untranslated", "Amina", "a name", "2026-01-02", "yes"]
    assert rows_by_head["set", "row", "language", "checks", "who", "why", "when", "holds"] == [
        decided,
        ["alignment", "x1", *decided[2:-1], "stale"],
    ]
    assert rows_by_head["set", "row", "language", "who", "why", "when"] == [
        ["alignment", "x1", "en", "Ben", "a typo", "2026-01-02"]
    ]
    assert rows_by_head["set", "source", "licence", "revision", "rows"] == [
        ["alignment", "world", "MIT", "abc", "2"],
        ["alignment", "world", "unknown", "not named", "1"],
    ]
    assert rows_by_head["language", "translator", "version", "licence", "texts"] == [
        ["bn", "nllb", "3", "CC-BY-NC-4.0", "2"],
        ["en", "human", "not named", "the row's", "2"],
        ["bn", "gpt", "not named", "unknown", "1"],
        ["en", "world", "not named", "the row's", "1"],
    ]
    assert rows_by_head["category", "intent", "rows"] == [["home", "benign", "2"], ["home", "harmful", "1"]]
    assert rows_by_head["file of data/", "sha256"] == [["a.jsonl", "0" * 64]]
    assert "**Quality: passed.**" in card


def test_a_failure_is_explained(tmp_path: Path) -> None:
    quality = metrics() | {"passed": False, "expectations": {"evaluated": 7, "failed": 2}}
    card = written(tmp_path, [row()], quality, failures=["alignment, bn, clean: 50.0% of 3 missing", "and <b>more</b>"])
    html = MarkdownIt("commonmark").render(card)
    assert "<li>alignment, bn, clean: 50.0% of 3 missing</li>" in html
    assert "<li>and &lt;b&gt;more&lt;/b&gt;</li>" in html
    assert "Quality: failed." in html and "Quality: passed." not in html


def test_a_warning_is_shown_and_is_no_failure(tmp_path: Path) -> None:
    html = MarkdownIt("commonmark").render(
        written(tmp_path, [row()], warnings=["alignment, bn, lost: <b>7 of 240</b>"])
    )
    assert "<li>alignment, bn, lost: &lt;b&gt;7 of 240&lt;/b&gt;</li>" in html
    assert "Quality: passed." in html


def test_replies_are_counted(tmp_path: Path) -> None:
    chosen = {"texts": 24, "quarantined": 3, "unchecked": ["cut_off"], "reasons": {"empty": 2, "pair": 1}}
    card = tables(written(tmp_path, [row()], metrics() | {"replies": {"alignment": {"chosen": {"en": chosen}}}}))
    assert card["set", "reply", "language", "texts", "in quarantine", "for"] == [
        ["alignment", "chosen", "en", "24", "3", "empty 2, pair 1"]
    ]
    assert card["set", "reply", "language", "checks without power"] == [["alignment", "chosen", "en", "cut_off"]]
    assert "No row has a reply." in written(tmp_path, [row()])


hostile = st.one_of(st.sampled_from([text for text in HOSTILE if "\ud800" not in text]), st.text(min_size=1))
# The name of a check that cannot be released is a mistake, and no text that acts.
hostile = hostile.filter(lambda text: text.strip() != "" and "\ud800" not in repr(text) and text not in NEVER_RELEASED)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(*[hostile] * 9)
def test_nothing_from_data_acts(
    tmp_path: Path,
    source: str,
    category: str,
    licence: str,
    revision: str,
    translator: str,
    version: str,
    who: str,
    why: str,
    row_id: str,
) -> None:
    one = row(
        id=row_id,
        source=source,
        category=category,
        origin=Origin(licence=licence, revision=revision, sha256="0" * 64),
        provenance={"en": Provenance(translator=translator, version=version)},
        prompts={"en": "Paint a boat."},
    )
    decided = release(who=who, why=why, id=row_id, checks=(source, category))
    card = written(tmp_path, [one], releases=[decided], files={source: "0" * 64})
    body = card.split("\n---\n", 1)[1]
    read = Read(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(body))
    assert read.tags <= {"h1", "h2", "p", "strong", "code", "table", "thead", "tbody", "tr", "th", "td"}
    page_text = " ".join(read.text.split())
    for text in (source, category, licence, revision, translator, version, who, why, row_id):
        assert " ".join(visible(text).split()) in page_text
    data: Any = DatasetCard(card).data
    assert data.source_datasets == [visible(source)]
    assert set(card) <= {"\n"} | set(visible(card))


def test_the_same_data_give_the_same_card(tmp_path: Path) -> None:
    rows = [row(n, category=f"c{n % 3}", source=f"s{n % 2}") for n in range(9)]
    assert written(tmp_path, rows) == written(tmp_path, list(reversed(rows)))


def test_a_long_table_is_cut_and_says_so(tmp_path: Path) -> None:
    rows = [row(n, category=f"c{n}") for n in range(450)]
    card = written(tmp_path, rows)
    assert len(tables(card)["category", "intent", "rows"]) == 200
    assert "\nand 250 more.\n" in card
