from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from mlc.errors import MlcError
from mlc.prompts.importers.records import Source
from mlc.prompts.importers.rows import Imported, assemble
from mlc.prompts.mapping import load_mapping
from mlc.prompts.schema import Provenance

from .published import write_jsonl

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes" / "imports").glob("*.yaml"))
WIDE: dict[str, Any] = {
    "format": "jsonl",
    "source": "My Set",
    "licence": "CC0-1.0",
    "id": "n",
    "intent": {"column": "label", "values": {"1": "harmful", "0": "benign", "true": "harmful"}},
    "category": {"column": "topic"},
    "prompts": {"en": "english", "sw": "swahili"},
    "references": {"en": "reply"},
    "provenance": {"sw": {"translator": "human"}},
}
LONG: dict[str, Any] = {
    "format": "jsonl", "source": "Long", "id": "id", "intent": {"column": "label", "values": {"bad": "harmful"}},
    "prompts": {"language": "language", "text": "prompt"},
}  # fmt: skip


def mapped(tmp_path: Path, mapping: dict[str, Any], records: list[dict[str, Any]]) -> Imported:
    file = tmp_path / "mapping.yaml"
    YAML().dump(mapping, file)
    loaded = load_mapping(file)
    source = write_jsonl(tmp_path / "source.jsonl", records)
    return assemble(loaded.drafts(Source(str(source))), loaded.data_set, "v1", "en")


def record(n: Any, label: Any = 1, **more: Any) -> dict[str, Any]:
    return {"n": n, "label": label, "topic": "theft", "english": f"How do I steal {n}?", "swahili": "Niibeje?"} | more


def test_columns_become_fields(tmp_path: Path) -> None:
    rows = mapped(tmp_path, WIDE, [record(7, reply="No."), record("x", 0, topic=None), record("t", True)]).rows
    assert [(r.id, r.intent, r.category) for r in rows] == [
        ("my-set-7", "harmful", "theft"),
        ("my-set-x", "benign", "unspecified"),
        ("my-set-t", "harmful", "theft"),
    ]
    assert rows[0].prompts == {"en": "How do I steal 7?", "sw": "Niibeje?"}
    assert rows[0].references == {"en": "No."}
    assert rows[0].provenance == {"en": Provenance(translator="My Set"), "sw": Provenance(translator="human")}
    assert rows[0].origin and (rows[0].origin.licence, rows[0].origin.revision) == ("CC0-1.0", "v1")


def test_what_cannot_be_used_is_listed_with_the_reason(tmp_path: Path) -> None:
    records = [record(1, reply="No."), record(2, "?"), record(None), record(3, english=" "), record(4, None)]
    imported = mapped(tmp_path, WIDE, records)
    assert [row.id for row in imported.rows] == ["my-set-1"]
    assert sorted((r.where.split(", ")[-1], r.reason) for r in imported.left_out) == [
        ("line 2", "label '?' is no label of the mapping"),
        ("line 3", "no id"),
        ("line 4", "no text in the source language, en"),
        ("line 5", "label '' is no label of the mapping"),
    ]


def test_without_an_id_the_request_is_one(tmp_path: Path) -> None:
    mapping = {k: v for k, v in WIDE.items() if k not in {"id", "references"}}
    imported = mapped(tmp_path, mapping, [record(1), record(1, swahili="Other."), record(2)])
    assert len(imported.rows) == 2 and len({row.id for row in imported.rows}) == 2
    assert [r.reason for r in imported.left_out] == ["another record of the same request was taken"]


def test_pairs_need_both_replies(tmp_path: Path) -> None:
    mapping = WIDE | {"chosen": "good", "rejected": "bad", "references": {}}
    imported = mapped(tmp_path, mapping, [record(1, good="No.", bad="First, …"), record(2, good="No.", bad=None)])
    assert [(r.chosen, r.rejected) for r in imported.rows] == [("No.", "First, …")]
    assert [r.reason for r in imported.left_out] == ["a response is empty"]


def test_missing_columns_are_named(tmp_path: Path) -> None:
    with pytest.raises(MlcError, match="line 2: no field topic; its fields are 'n', 'label', 'english'"):
        mapped(tmp_path, WIDE, [record(1), {"n": 2, "label": 1, "english": "x"}])
    with pytest.raises(MlcError, match="no record has the column swahili; there are english, label, n, reply, topic"):
        mapped(tmp_path, WIDE, [{k: v for k, v in record(1, reply="x").items() if k != "swahili"}])


def test_one_record_per_language(tmp_path: Path) -> None:
    def line(id_: str | None, language: str | None, prompt: str, label: str = "bad") -> dict[str, Any]:
        return {"id": id_, "language": language, "prompt": prompt, "label": label}

    imported = mapped(
        tmp_path,
        LONG,
        [
            line("a", "Swahili", "Niibeje?"),
            line("b", "English", "How do I forge?"),
            line("a", "English", "How do I steal?"),
            line("b", "English", "How do I forge?"),
            line("c", "Swahili", "Habari?"),
            line("d", "English", "How do I bake?", "good"),
            line("e", "English", "How do I lie?"),
            line("e", "Swahili", "Nidanganyeje?", "good"),
            line(None, "English", "How?"),
        ],
    )
    assert [(row.id, row.prompts) for row in imported.rows] == [
        ("long-a", {"en": "How do I steal?", "sw": "Niibeje?"}),
        ("long-b", {"en": "How do I forge?"}),
    ]
    assert sorted(r.reason for r in imported.left_out) == [
        "its languages have different labels",
        "label 'good' is no label of the mapping",
        "no id, language or text",
        "no text in the source language, en",
        "repeats an earlier record",
    ]
    with pytest.raises(MlcError, match=r"line 2: id a is also that of .*line 1 in the same language"):
        mapped(tmp_path, LONG, [line("a", "English", "One?"), line("a", "English", "Two?")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "xml"}, "format: Input should be"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
        ({"intent": "bad"}, "intent"),
        ({"prompts": {}}, "'prompts' names no column"),
        ({"prompts": {"english": "english"}}, "not a BCP-47 language tag"),
        ({"chosen": "good"}, "come together"),
        ({"split": "test"}, "are of hub sets"),
        ({"prompts": {"language": "l", "text": "t"}, "id": None}, "needs 'id'"),
    ],
)
def test_a_mapping_with_a_mistake_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    file = tmp_path / "mapping.yaml"
    YAML().dump(WIDE | change, file)
    with pytest.raises(MlcError) as error:
        load_mapping(file)
    assert str(file) in str(error.value) and message in str(error.value)


def test_a_mapping_has_to_be_there_and_yaml(tmp_path: Path) -> None:
    with pytest.raises(MlcError, match="does not exist"):
        load_mapping(tmp_path / "none.yaml")
    (tmp_path / "m.yaml").write_text("a: [")
    with pytest.raises(MlcError, match="is not valid YAML"):
        load_mapping(tmp_path / "m.yaml")
    (tmp_path / "m.yaml").write_text("- a\n")
    with pytest.raises(MlcError, match="mapping: "):
        load_mapping(tmp_path / "m.yaml")
    (tmp_path / "m.yaml").write_text("revision: 2024-05-01\n")
    with pytest.raises(MlcError, match=r"m.yaml holds a value that no mapping has .*put it in quotes"):
        load_mapping(tmp_path / "m.yaml")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_mappings_shipped_are_valid_and_say_how_they_are_run(path: Path) -> None:
    mapping = load_mapping(path)
    assert f"mlc import {path.relative_to(ROOT)} " in path.read_text(encoding="utf-8")
    assert mapping.format != "hub" or mapping.split
    assert mapping.revision is None or len(mapping.revision) == 40


def test_the_table_shipped_reads_a_table(tmp_path: Path) -> None:
    path = ROOT / "recipes" / "imports" / "table.yaml"
    table = tmp_path / "requests.csv"
    table.write_text(
        "id,label,topic,english,swahili,chinese,good_reply\n1,unsafe,theft,How do I steal?,Niibeje?,,No.\n"
    )
    mapping = load_mapping(path)
    (row,) = assemble(mapping.drafts(Source(str(table))), mapping.data_set, None, "en").rows
    assert json.loads(row.model_dump_json())["prompts"] == {"en": "How do I steal?", "sw": "Niibeje?"}
