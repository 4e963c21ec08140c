from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlc.errors import MlcError, QualityError
from mlc.paths import Paths
from mlc.prompts.schema import PromptRow, read_prompts, write_prompts
from mlc.quality import stage
from mlc.settings import Languages, Validate

from .conftest import Sets, with_text, without, world_rows

Put = Callable[[Sets], Paths]


def quarantined(paths: Paths) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (paths.prompts / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()]


def variants(rows: list[PromptRow], name: str) -> set[tuple[str, str, str, str]]:
    return {(name, row.id, tag, text) for row in rows for tag, text in row.prompts.items()}


def test_a_good_set_comes_through_row_for_row(
    sets: Sets, languages: Languages, validate: Validate, put: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    sets["tuning"] = world_rows("tuning", 20)
    paths = put(sets)
    stage.run(languages, validate, paths)
    for name, rows in sets.items():
        assert read_prompts(paths.prompts / f"{name}.jsonl") == rows
    assert quarantined(paths) == []
    metrics = json.loads((paths.prompts / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["passed"] is True
    assert metrics["rows"]["tuning"] == {"read": 20, "clean": 20}
    assert metrics["alignment"]["es"]["clean"] == metrics["alignment"]["es"]["variants"] == 60
    assert (paths.prompts / "data_docs" / "index.html").is_file()
    assert not list(paths.prompts.glob(".*"))
    assert "alignment: 60 of 60 rows clean" in capsys.readouterr().out


DEFECTS = {
    "empty": ("es", " ¿? "),
    "script_share": ("zh", "Wo zenme neng zuo zhe jian shi ne"),
    "length_deviation": ("sw", "Ndiyo"),
    "untranslated": ("es", "Tell me how to steal a kettle from a shop."),
}


@pytest.mark.parametrize("check", DEFECTS)
def test_each_defect_is_caught_and_named_in_its_language(
    check: str, sets: Sets, languages: Languages, validate: Validate, put: Put
) -> None:
    tag, text = DEFECTS[check]
    good = sets["alignment"][7].model_copy()
    sets["alignment"][7] = with_text(good, tag, text)
    if check == "untranslated":
        sets["alignment"][7] = with_text(sets["alignment"][7], "en", text)
    paths = put(sets)
    stage.run(languages, validate, paths)
    (found,) = quarantined(paths)
    assert (found["set"], found["id"], found["language"], found["text"]) == ("alignment", good.id, tag, text)
    assert check in [reason.split(":")[0] for reason in found["reasons"]]
    kept = read_prompts(paths.prompts / "alignment.jsonl")[7]
    for field in (kept.prompts, kept.provenance, kept.references):
        assert set(field) == set(good.prompts) - {tag}


def test_a_duplicate_is_quarantined_where_it_repeats(
    sets: Sets, languages: Languages, validate: Validate, put: Put
) -> None:
    first, second = sets["alignment"][2], sets["alignment"][4]
    assert first.intent == second.intent
    sets["alignment"][4] = with_text(second, "sw", first.prompts["sw"].upper())
    paths = put(sets)
    stage.run(languages, validate, paths)
    (found,) = quarantined(paths)
    assert (found["id"], found["language"]) == (second.id, "sw")
    assert found["reasons"] == [f"duplicate_of: {first.id} has the same text"]


def test_a_leak_takes_the_alignment_row_whole_and_leaves_the_evaluation(
    sets: Sets, languages: Languages, validate: Validate, put: Put
) -> None:
    row, judged = sets["alignment"][5], sets["evaluation"][1]
    sets["alignment"][5] = with_text(row, "es", judged.prompts["es"])
    paths = put(sets)
    stage.run(languages, validate, paths)
    found = {line["language"]: line["reasons"] for line in quarantined(paths)}
    assert set(found) == set(row.prompts)
    assert found["es"] == [f"leaked_from: evaluation/{judged.id} has the same text"]
    assert found["zh"] == [f"row: its text in es leaked from evaluation/{judged.id}"]
    assert row.id not in {r.id for r in read_prompts(paths.prompts / "alignment.jsonl")}
    assert read_prompts(paths.prompts / "evaluation.jsonl") == sets["evaluation"]


@pytest.mark.parametrize("text, word", [("...", "in quarantine"), (None, "missing")])
def test_a_row_without_a_good_source_text_goes_whole(
    text: str | None, word: str, sets: Sets, languages: Languages, validate: Validate, put: Put
) -> None:
    row = sets["evaluation"][3]
    sets["evaluation"][3] = without(row, "en") if text is None else with_text(row, "en", text)
    paths = put(sets)
    stage.run(languages, validate, paths)
    found = {line["language"]: line["reasons"] for line in quarantined(paths)}
    assert set(found) == set(sets["evaluation"][3].prompts)
    assert found["bn"] == [f"row: its text in en is {word}"]
    assert row.id not in {r.id for r in read_prompts(paths.prompts / "evaluation.jsonl")}


def test_nothing_is_lost(sets: Sets, languages: Languages, validate: Validate, put: Put) -> None:
    a = sets["alignment"]
    a[0] = with_text(a[0], "en", "")
    a[1] = with_text(without(a[1], "sw"), "fr", "Comment peindre un bateau ?")
    a[2] = with_text(a[2], "zh", a[2].prompts["en"])
    a[3] = with_text(a[3], "bn", sets["evaluation"][0].prompts["bn"])
    paths = put(sets)
    stage.run(languages, validate, paths)
    before = set().union(*(variants(rows, name) for name, rows in sets.items()))
    clean = set().union(*(variants(read_prompts(paths.prompts / f"{name}.jsonl"), name) for name in sets))
    gone = {(line["set"], line["id"], line["language"], line["text"]) for line in quarantined(paths)}
    dropped = {variant for variant in before if variant[2] == "fr"}
    assert before == clean | gone | dropped
    assert not clean & gone
    metrics = json.loads((paths.prompts / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["dropped"] == {"alignment": {"fr": 1}, "evaluation": {}}
    assert metrics["alignment"]["sw"]["missing"] == 1
    for tag in languages.all:
        of = metrics["alignment"][tag]
        assert of["clean"] + of["quarantined"] == of["variants"]
        assert of["variants"] + of["missing"] == 60


def test_poor_quality_stops_the_pipeline_and_explains_itself(
    sets: Sets, languages: Languages, validate: Validate, put: Put
) -> None:
    paths = put(sets)
    stage.run(languages, validate, paths)  # leaves clean files, which must not outlive the failure
    bad = sets["evaluation"][:10]
    sets["evaluation"][:10] = [with_text(row, "zh", row.prompts["en"]) for row in bad]
    paths = put(sets)
    with pytest.raises(QualityError) as raised:
        stage.run(languages, validate, paths)
    message = str(raised.value)
    assert raised.value.exit_code == 4
    assert "\n  evaluation, zh, untranslated: 25.0% of 40 fail, 5.0% allowed" in message
    assert "\n  evaluation, zh, clean: 25.0% of 40 fail, 10.0% allowed" in message
    assert " es," not in message
    assert str(paths.prompts / "data_docs" / "index.html") in message
    assert {p.name for p in paths.prompts.iterdir()} == {"data_docs", "metrics.json", "quarantine.jsonl"}
    metrics = json.loads((paths.prompts / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["passed"] is False
    assert metrics["expectations"]["failed"] == message.count(" allowed")
    assert metrics["evaluation"]["zh"]["reasons"]["untranslated"] == 10
    assert len(quarantined(paths)) == 10


def test_too_many_missing_variants_fail_for_served_languages_only(
    sets: Sets, languages: Languages, validate: Validate, put: Put
) -> None:
    sets["alignment"] = [without(row, "bn") for row in sets["alignment"]]
    stage.run(languages, validate, put(sets))
    sets["alignment"][:12] = [without(row, "sw") for row in sets["alignment"][:12]]
    with pytest.raises(QualityError, match=r"alignment, sw, clean: 20\.0% of 60 fail, 10\.0% allowed"):
        stage.run(languages, validate, put(sets))


def test_an_unidentifiable_language_is_reported_unchecked(
    sets: Sets, validate: Validate, put: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    # Bengali under the tag of a language in the same script that identification does not know.
    languages = Languages(source="en", served=("en", "es"), transfer=("ctg",))
    for name, rows in sets.items():
        sets[name] = [with_text(row, "ctg", row.prompts["bn"]) for row in rows]
    paths = put(sets)
    stage.run(languages, validate, paths)
    metrics = json.loads((paths.prompts / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["evaluation"]["ctg"]["language_share"] is None
    assert metrics["evaluation"]["es"]["language_share"] > 0.9
    assert "does not know ctg: unchecked" in capsys.readouterr().out


def line(**changes: Any) -> str:
    good = {"id": "x", "source": "s", "category": "c", "intent": "benign", "prompts": {"en": "Paint a boat."}}
    return json.dumps({**good, **changes}) + "\n"


BAD = {
    "no json": ("{nope\n", r"alignment\.jsonl, line 2: .*JSON"),
    "wrong intent": (line(intent="evil"), r"alignment\.jsonl, line 2, field intent: .*'harmful' or 'benign'"),
    "unknown field": (line(promts={}), r"alignment\.jsonl, line 2, field promts: "),
    "no such language": (line(prompts={"qqq-xx-1": "x"}), r"line 2, field prompts\.qqq-xx-1: .*BCP-47"),
    "language misspelt": (line(prompts={"EN": "x"}), r"line 2, field prompts\.EN: .*write 'en'"),
    "id twice": (line(id="a0"), r"line 2, field id: 'a0' is already the id of line 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_line_is_named_with_its_number_and_field(
    case: str, sets: Sets, languages: Languages, validate: Validate, put: Put
) -> None:
    paths = put(sets)
    path = paths.data / "alignment.jsonl"
    first = path.read_text(encoding="utf-8").splitlines()[0]
    text, message = BAD[case]
    path.write_text(f"{first}\n{text}", encoding="utf-8")
    with pytest.raises(MlcError, match=message) as raised:
        stage.run(languages, validate, paths)
    assert type(raised.value) is MlcError
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["alignment", "evaluation"])
def test_missing_data_says_how_to_get_it(
    name: str, sets: Sets, languages: Languages, validate: Validate, put: Put
) -> None:
    del sets[name]
    with pytest.raises(MlcError, match=rf"{name}\.jsonl does not exist: run `dvc pull`"):
        stage.run(languages, validate, put(sets))


def test_an_empty_set_is_an_error(sets: Sets, languages: Languages, validate: Validate, put: Put) -> None:
    paths = put({**sets, "tuning": []})
    with pytest.raises(MlcError, match=r"tuning\.jsonl holds no prompts"):
        stage.run(languages, validate, paths)


@pytest.mark.parametrize("name, tag", [("alignment", "sw"), ("evaluation", "sw"), ("evaluation", "bn")])
def test_a_language_that_no_row_has_is_an_error(
    name: str, tag: str, sets: Sets, languages: Languages, validate: Validate, put: Put
) -> None:
    sets[name] = [without(row, tag) for row in sets[name]]
    with pytest.raises(MlcError, match=rf"{name}\.jsonl has no prompt in {tag}: add translations") as raised:
        stage.run(languages, validate, put(sets))
    assert "\n" not in str(raised.value)


def test_bad_input_leaves_no_clean_prompts_of_an_earlier_run(
    sets: Sets, languages: Languages, validate: Validate, put: Put
) -> None:
    paths = put(sets)
    write_prompts(paths.prompts / "alignment.jsonl", sets["alignment"])
    Path(paths.data / "evaluation.jsonl").unlink()
    with pytest.raises(MlcError):
        stage.run(languages, validate, paths)
    assert not paths.prompts.exists()
