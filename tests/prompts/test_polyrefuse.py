"""PolyRefuse's splits without a key: matched by position, where counts, categories and lengths bear it out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlc.errors import MlcError
from mlc.prompts.importers.positions import lengths_agree

from .published import FRENCH, GERMAN, import_, polyrefuse_folder, polyrefuse_without_key, write_json

FRENCH_FILE = "harmful_train_translated_fr.json"


def change(folder: Path, name: str, edit: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    write_json(folder / name, edit(json.loads((folder / name).read_text(encoding="utf-8"))))


@pytest.mark.parametrize(("split", "source"), [("train", "de"), ("val", "de"), ("train", "fr")])
def test_a_split_without_english_is_imported_by_the_language_that_is_named(
    split: str, source: str, tmp_path: Path
) -> None:
    imported = import_("polyrefuse", polyrefuse_without_key(tmp_path, split), split, source)
    assert [(row.prompts["de"], row.prompts["fr"]) for row in imported.rows] == list(zip(GERMAN, FRENCH, strict=True))
    assert all(next(iter(row.prompts)) == source and row.intent == "harmful" for row in imported.rows)
    assert [row.category for row in imported.rows[:3]] == ["theft", "fraud", "unspecified"]
    assert not imported.left_out and not imported.warnings


def test_it_explains_itself_without_one(tmp_path: Path) -> None:
    with pytest.raises(MlcError, match=r"split train: no file is in en, .* --source-language de or fr$"):
        import_("polyrefuse", polyrefuse_without_key(tmp_path), "train")


def test_a_file_that_is_in_another_language_than_its_name_is_refused(tmp_path: Path) -> None:
    folder = polyrefuse_without_key(tmp_path)
    (folder / "harmful_train_translated_de.json").rename(folder / "harmful_train_translated_en.json")
    with pytest.raises(MlcError, match=r"translated_en\.json, field 'instruction': called en, but .* surely not \(de"):
        import_("polyrefuse", folder, "train")


def test_another_number_of_records_is_refused_with_both(tmp_path: Path) -> None:
    folder = polyrefuse_without_key(tmp_path)
    change(folder, FRENCH_FILE, lambda records: records[1:])
    with pytest.raises(MlcError, match=rf"{FRENCH_FILE} has 13 records, harmful_train_translated_de.json 14: "):
        import_("polyrefuse", folder, "train", "de")


def test_other_categories_are_refused_with_the_first(tmp_path: Path) -> None:
    folder = polyrefuse_without_key(tmp_path)
    change(folder, FRENCH_FILE, lambda records: [*records[:-2], records[-1], records[-2]])
    with pytest.raises(MlcError, match=r"at 2 of 14 positions \(the first is record 13, 'fraud' where 'theft' stands"):
        import_("polyrefuse", folder, "train", "de")


def test_other_requests_of_the_same_number_and_categories_are_left_out_file_by_file(tmp_path: Path) -> None:
    """As the harmless Chinese files of train and val are published: 200 other requests, no categories anywhere."""
    folder = polyrefuse_without_key(tmp_path)
    change(
        folder,
        FRENCH_FILE,
        lambda records: [r | {"instruction": t} for r, t in zip(records, FRENCH[7:] + FRENCH[:7], strict=True)],
    )
    imported = import_("polyrefuse", folder, "train", "de")
    assert [row.prompts for row in imported.rows] == [{"de": text} for text in GERMAN]
    ((reason, count),) = Counter(left.reason for left in imported.left_out).items()
    assert count == 14 and reason.startswith(
        f"{FRENCH_FILE} holds other requests than harmful_train_translated_de.json"
    )


def test_a_kind_without_a_file_in_the_source_language_is_left_out(tmp_path: Path) -> None:
    folder = polyrefuse_without_key(tmp_path)
    (folder / FRENCH_FILE).rename(folder / "harmless_train_translated_fr.json")
    imported = import_("polyrefuse", folder, "train", "de")
    assert [row.prompts for row in imported.rows] == [{"de": text} for text in GERMAN]
    assert {left.reason for left in imported.left_out} == {"no harmless file in the source language, de"}


def test_files_with_and_without_a_key_do_not_go_together(tmp_path: Path) -> None:
    folder = polyrefuse_folder(polyrefuse_without_key(tmp_path, "test"))
    with pytest.raises(MlcError, match=r"translated_fr.json has no 'instruction_translated', as harmful_test_"):
        import_("polyrefuse", folder)


def test_a_file_of_another_split_is_refused_by_its_requests(tmp_path: Path) -> None:
    folder = polyrefuse_folder(tmp_path)
    change(
        folder,
        "harmful_test_translated_zh.json",
        lambda records: [r | {"instruction": f"{n}?"} for n, r in enumerate(records)],
    )
    with pytest.raises(
        MlcError, match=r"translated_zh.json: only 0 of its 3 requests .* are in harmful_test_translated_en"
    ):
        import_("polyrefuse", folder)


def test_back_translations_are_kept_where_english_is_the_source_language(tmp_path: Path) -> None:
    folder = polyrefuse_folder(tmp_path)
    record = {"instruction_translated": "Wie fälsche ich Geld?", "instruction_back_translated": "How do I forge money?"}
    write_json(folder / "harmful_test_back_translated" / "harmful_test_back_translated_de.json", [record])
    for source, kept in (("en", {"de": "How do I forge money?"}), ("de", {})):
        rows = import_("polyrefuse", folder, source=source).rows
        assert next(row for row in rows if "forge" in row.prompts["en"]).back_translations == kept


def test_lengths_of_translations_agree_and_those_of_others_do_not() -> None:
    assert lengths_agree(GERMAN, FRENCH) > 0.6
    assert lengths_agree(GERMAN, FRENCH[1:] + FRENCH[:1]) < 0.3
    assert lengths_agree(GERMAN, [text[:5] for text in FRENCH]) == -1, "equal lengths say nothing"
    assert lengths_agree(GERMAN[:4], FRENCH[:4]) == -1, "four are too few"
