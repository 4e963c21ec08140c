from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlc.errors import MlcError, QualityError
from mlc.paths import Paths
from mlc.prompts.schema import PromptRow, read_prompts, write_prompts
from mlc.quality import quarantine_edit, stage
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
    assert metrics["rows"]["tuning"] == {"read": 20, "clean": 20, "dropped_by_rule": 0, "kept_incomplete": 0}
    assert metrics["alignment"]["sw"]["clean"] == metrics["alignment"]["sw"]["variants"] == 60
    assert (paths.prompts / "data_docs" / "index.html").is_file()
    assert not list(paths.prompts.glob(".*"))
    assert "alignment: 60 of 60 rows clean" in capsys.readouterr().out


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
    bad = sets["evaluation"][:10]
    sets["evaluation"][:10] = [with_text(row, "zh", row.prompts["en"]) for row in bad]
    paths = put(sets)
    write_prompts(
        paths.prompts / "alignment.jsonl", sets["alignment"]
    )  # of an earlier run: must not outlive the failure
    with pytest.raises(QualityError) as raised:
        stage.run(languages, validate, paths)
    message = str(raised.value)
    assert raised.value.exit_code == 4
    listed = "mlc quarantine list --set evaluation --language zh"
    assert "\n  evaluation, zh, untranslated: 10 of 40 left in the source language (25.0%, 95% interval 12.7" in message
    three = "for leakage 10, length_deviation 10, script_share 10"
    for end in (
        rf"untranslated: .*; 5\.0% allowed\); for untranslated 10, leakage 10, \w+ 10: `{listed} --check untranslated`",
        rf"quarantined: 10 of 40 in quarantine for any reason .*; 5\.0% allowed\); {three}: `{listed}`",
        rf"clean: 10 of 40 missing or in quarantine .*; 10\.0% allowed\); {three}: `{listed}`",
    ):
        assert re.search(rf"^  evaluation, zh, {end}$", message, re.MULTILINE), end
    assert " sw," not in message
    assert str(paths.prompts / "data_docs" / "index.html") in message
    assert {p.name for p in paths.prompts.iterdir()} == {"data_docs", "datacard.md", "metrics.json", "quarantine.jsonl"}
    metrics = json.loads((paths.prompts / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["passed"] is False
    assert metrics["expectations"]["failed"] == message.count(" allowed") == len(message.splitlines()) - 1
    limits = {(limit["language"], limit["check"]): limit for limit in metrics["limits"] if limit["failed"]}
    assert len(limits) == metrics["expectations"]["failed"]
    assert limits["zh", "untranslated"]["failing"] == 10
    assert limits["zh", "untranslated"]["low"] > limits["zh", "untranslated"]["allowed"] == 0.05
    assert metrics["evaluation"]["zh"]["reasons"]["untranslated"] == 10
    assert len(quarantined(paths)) == 10


def test_too_many_missing_variants_fail_for_served_languages_only(
    sets: Sets, languages: Languages, validate: Validate, put: Put
) -> None:
    sets["alignment"] = [without(row, "bn") for row in sets["alignment"]]
    sets["alignment"][:16] = [without(row, "sw") for row in sets["alignment"][:16]]
    with pytest.raises(QualityError) as raised:
        stage.run(languages, validate, put(sets))
    assert str(raised.value).count(" allowed") == 1
    assert "alignment, sw, clean: 16 of 60 missing or in quarantine (26.7%, " in str(raised.value)
    assert "; 10.0% allowed); for missing 16: `mlc translate --help`" in str(raised.value)


def test_what_may_be_chance_is_a_warning(
    sets: Sets, languages: Languages, validate: Validate, put: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    """4 of 40 where 5% are allowed: more than that, and as much is found in one of seven sets that keep to it."""
    sets["evaluation"][:4] = [with_text(row, "zh", row.prompts["en"]) for row in sets["evaluation"][:4]]
    paths = put(sets)
    stage.run(languages, validate, paths)
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    (line,) = [line for line in warnings if line.startswith("warning: evaluation, zh, quarantined: ")]
    assert re.search(
        r"quarantined: 4 of 40 in quarantine for any reason \(10\.0%, 95% interval 2\.8–23\.7%; 5\.0% allowed, "
        r"so it may be chance\); for \w+ 4, \w+ \d, \w+ \d: `mlc quarantine list --set evaluation --language zh`$",
        line,
    )
    metrics = json.loads((paths.prompts / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["passed"] is True
    assert metrics["expectations"]["warned"] == len(warnings) == len(metrics["limits"])
    assert not any(limit["failed"] for limit in metrics["limits"])
    card = (paths.prompts / "datacard.md").read_text(encoding="utf-8")
    assert "**Quality: passed.**" in card and "may be chance" in card
    index = (paths.prompts / "data_docs" / "index.html").read_text(encoding="utf-8")
    assert index.count('class="warned"') == 1 and "untranslated, leakage, quarantined" in index


def test_what_somebody_released_is_past_no_limit(
    sets: Sets, languages: Languages, validate: Validate, put: Put
) -> None:
    bad = sets["evaluation"][:10]
    sets["evaluation"][:10] = [with_text(row, "zh", row.prompts["en"]) for row in bad]
    paths = put(sets)
    lenient = validate.model_copy(update={"minimum_language_share": 0.0})
    with pytest.raises(QualityError):
        stage.run(languages, lenient, paths)
    for row in bad:
        quarantine_edit.release(paths, ("evaluation", row.id, "zh"), "a brand name", "Amina")
    stage.run(languages, lenient, paths)
    metrics = json.loads((paths.prompts / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["limits"] == []
    assert metrics["evaluation"]["zh"]["released"] == 10


def test_a_language_that_is_taken_for_another_says_which_and_shows_a_row(
    sets: Sets, languages: Languages, validate: Validate, put: Put
) -> None:
    spanish = [row.prompts["es"] for row in world_rows("alignment", 60, ("es",))]
    sets["alignment"] = [with_text(row, "sw", text) for row, text in zip(sets["alignment"], spanish, strict=True)]
    with pytest.raises(QualityError) as raised:
        stage.run(languages, validate, put(sets))
    (line,) = [line for line in str(raised.value).splitlines() if "right_language" in line]
    assert "; taken for es " in line
    assert line.endswith(": `mlc quarantine show alignment a0 --language sw`")


def test_a_language_that_nothing_knows_is_reported_unchecked(
    sets: Sets, validate: Validate, put: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    # Chittagonian: neither identification nor Unicode's list of scripts has it.
    languages = Languages(source="en", served=("en", "sw"), transfer=("ctg",))
    for name, rows in sets.items():
        sets[name] = [with_text(row, "ctg", row.prompts["bn"]) for row in rows]
    paths = put(sets)
    stage.run(languages, validate, paths)
    metrics = json.loads((paths.prompts / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["evaluation"]["ctg"]["language_share"] is None
    assert metrics["evaluation"]["ctg"]["script_share"] is None
    assert metrics["evaluation"]["sw"]["language_share"] > 0.9
    printed = capsys.readouterr().out
    assert "right_language: unchecked in alignment ctg; evaluation ctg\n" in printed
    assert "script_share: unchecked in alignment ctg; evaluation ctg\n" in printed
    assert "mistranslated: unchecked everywhere\n" in printed
    assert {"right_language", "other_language", "script_share"} <= set(metrics["evaluation"]["ctg"]["unchecked"])
    assert "right_language" not in metrics["evaluation"]["sw"]["unchecked"]


def line(**changes: Any) -> str:
    good = {"id": "x", "source": "s", "category": "c", "intent": "benign", "prompts": {"en": "Paint a boat."}}
    return json.dumps({**good, **changes}) + "\n"


BAD = {
    "no json": ("{nope\n", r"alignment\.jsonl, line 2: .*JSON"),
    "wrong intent": (line(intent="evil"), r"alignment\.jsonl, line 2, field intent: .*'harmful' or 'benign'"),
    "unknown field": (line(promts={}), r"alignment\.jsonl, line 2, field promts: "),
    "no such language": (line(prompts={"qqq-xx-1": "x"}), r"line 2, field prompts\.qqq-xx-1: .*BCP-47"),
    "language misspelt": (line(prompts={"EN": "x"}), r"line 2, field prompts\.EN: .*write 'en'"),
    "lone surrogate": (line().replace("Paint", "\\ud800"), r"alignment\.jsonl, line 2: Invalid JSON: .*hex escape"),
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
    with pytest.raises(MlcError, match=rf"{name}\.jsonl does not exist: run `dvc pull data\.dvc`"):
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


HOSTILE = {
    "=cmd|'/C calc'!A0": None,  # formulas and markup are data like any other
    "<script>alert(1)</script> How do I paint a boat?": None,
    "How do I \u202epaint a boat?": "control_characters",
    "How do I paint\x00 a boat?": "control_characters",
    "paint " * 200_000: "characters",
}


def test_hostile_texts_are_kept_whole_and_shown_as_text(
    sets: Sets, languages: Languages, validate: Validate, put: Put
) -> None:
    row = sets["evaluation"][0]
    sets["evaluation"] += [
        row.model_copy(update={"id": f"<script>alert({n})</script>", "prompts": {**row.prompts, "en": f"{text}{n}"}})
        for n, text in enumerate(HOSTILE)
    ]
    paths = put(sets)
    stage.run(languages, validate.model_copy(update={"maximum_quarantined": 0.2, "minimum_coverage": 0.5}), paths)
    failed_checks: dict[str, set[str]] = {}
    texts = set()
    for record in quarantined(paths):
        failed_checks.setdefault(record["id"], set()).update(reason["check"] for reason in record["reasons"])
        texts.add(record["text"])
    for n, (text, check) in enumerate(HOSTILE.items()):
        if check is not None:
            assert check in failed_checks[f"<script>alert({n})</script>"]
            assert f"{text}{n}" in texts
    for page in (paths.prompts / "data_docs").rglob("*.html"):
        assert "<script>alert(" not in page.read_text(encoding="utf-8")
