"""Chosen, rejected and reference replies: what is wrong with them is found, and what is only unusual is not."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from mlc.cli import app
from mlc.errors import MlcError, QualityError
from mlc.paths import Paths
from mlc.prompts.schema import PromptRow, read_prompts
from mlc.quality import quarantine_edit, quarantine_list, quarantine_view, replies, stage
from mlc.quality.decisions import Releases
from mlc.quality.quarantine import held_replies
from mlc.settings import Languages, Validate

from .conftest import Sets, world_rows

Put = Callable[[Sets], Paths]
REFUSALS = ("Sorry, I cannot help with that.", "I am afraid I must decline this request.")
ROOT = Path(__file__).parents[2]


def with_pairs(rows: list[PromptRow]) -> list[PromptRow]:
    return [
        row.model_copy(update={"chosen": row.references["en"], "rejected": REFUSALS[n % 2]})
        for n, row in enumerate(rows)
    ]


@pytest.fixture
def sets(sets: Sets) -> Sets:
    return {**sets, "alignment": with_pairs(sets["alignment"])}


def change(sets: Sets, name: str, number: int, **fields: Any) -> None:
    sets[name][number] = sets[name][number].model_copy(update=fields)


def reasons(sets: Sets, tags: tuple[str, ...] = ("en", "sw", "zh", "bn")) -> dict[tuple[str, str, str, str], set[str]]:
    """Set, id, part and language of every reply in quarantine -> the checks that hold it."""
    frame = replies.set_columns([replies.reply_columns(name, rows, tags, "en", ()) for name, rows in sets.items()])
    return {
        (*row, *reply): {reason.check for reason in why}
        for row, of_row in held_replies(frame, Releases()).items()
        for reply, why in of_row.items()
    }


def test_good_replies_are_left_as_they_are(sets: Sets) -> None:
    assert reasons(sets) == {}


SPANISH = "No puedo ayudarte con eso, porque es ilegal y hace daño a otras personas."
BROKEN = {
    "nothing": ("", "empty"),
    "spaces": (" \n\t", "empty"),
    "signs alone": ("...", "empty"),
    "invisible": ("\u200b\u200b", "empty"),
    "a control": ("Sure, here\x00 is how.", "control_characters"),
    "an override": ("Sure, \u202ehere is how.", "control_characters"),
    "undecodable": ("Sure, here is how \ufffd\ufffd.", "control_characters"),
    "mojibake": ("Claro, aquÃ\xad estÃ¡ cÃ³mo se hace.", "mojibake"),
    "another language": (SPANISH, "other_language"),
    "amid a sentence": ("First, prepare everything well. Then you should begin", "cut_off"),
    "after a comma": ("First, prepare everything well,", "cut_off"),
    "amid a word": ("Sure, here is how to pai", "cut_off"),
    "amid code": ("Run this:\n```python\nprint('hello", "cut_off"),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("part", ["chosen", "rejected"])
def test_a_broken_reply_is_held_and_takes_its_pair_along_and_nothing_else(case: str, part: str, sets: Sets) -> None:
    text, check = BROKEN[case]
    change(sets, "alignment", 7, **{part: text})
    held = reasons(sets)
    other = "rejected" if part == "chosen" else "chosen"
    assert held.keys() == {("alignment", "a7", part, "en"), ("alignment", "a7", other, "en")}
    assert check in held["alignment", "a7", part, "en"]
    assert held["alignment", "a7", other, "en"] == {"pair"}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_reference_goes_alone(case: str, sets: Sets) -> None:
    text, check = BROKEN[case]
    row = sets["evaluation"][3]
    change(sets, "evaluation", 3, references={**row.references, "en": text})
    held = reasons(sets)
    assert held.keys() == {("evaluation", "e3", "reference", "en")}
    assert check in held["evaluation", "e3", "reference", "en"]


@pytest.mark.parametrize("rejected", ["{}", "  {}\n", "{u}"])
def test_a_pair_of_one_reply_is_held_whatever_its_case_and_spaces(rejected: str, sets: Sets) -> None:
    chosen = sets["alignment"][5].chosen or ""
    change(sets, "alignment", 5, rejected=rejected.format(chosen, u=chosen.upper()))
    held = reasons(sets)
    assert held == {("alignment", "a5", part, "en"): {"identical"} for part in ("chosen", "rejected")}


def test_replies_that_differ_by_a_sign_are_two(sets: Sets) -> None:
    change(sets, "alignment", 5, chosen="x = a + b.", rejected="x = a - b.")
    assert reasons(sets) == {}


def test_the_same_prompt_and_reply_twice_is_held_once(sets: Sets) -> None:
    change(sets, "alignment", 8, prompts=sets["alignment"][2].prompts, chosen=sets["alignment"][2].chosen)
    held = reasons(sets)
    assert held["alignment", "a8", "chosen", "en"] == {"duplicate_of"}
    assert {key[1] for key in held} == {"a8"}
    change(sets, "alignment", 8, prompts=world_rows("alignment", 61)[60].prompts)
    assert reasons(sets) == {}  # the same reply to another request is ordinary


def test_a_reply_that_one_row_chooses_and_another_rejects_condemns_both(sets: Sets) -> None:
    two = sets["alignment"][2]
    change(sets, "alignment", 8, prompts=two.prompts, chosen="I would rather not.", rejected=two.chosen)
    held = reasons(sets)
    assert held["alignment", "a2", "chosen", "en"] == held["alignment", "a8", "rejected", "en"] == {"duplicate_of"}


ORDINARY = (
    "42",
    "Yes.",
    "👍",
    "Sure! :)",
    'He said "hello"',
    "Use `print(1)`",
    "See https://example.org/a-page",
    "Do this:\n- lock the door\n- close the window",
    "Do this:\n1. Lock the door\n2) Close the window",
    "All the best,\nAnna",
    "```python\nprint('hello')\n```",
    "| a | b |\n|---|---|\n| one | two |",
    "# A heading",
    "That is it…",
    "It was written by Dr. Smith.",
)


@pytest.mark.parametrize("text", ORDINARY)
def test_an_ordinary_reply_is_not_held(text: str, sets: Sets) -> None:
    change(sets, "alignment", 7, chosen=text)
    assert reasons(sets) == {}


@pytest.mark.parametrize(
    "text", ["a" * 10**6, ")" * 10**6 + "a", "a " * 10**6, "`" * 10**6, "a. B" * 10**5, "." * 10**6]
)
def test_a_reply_of_a_megabyte_costs_no_more_than_its_length(text: str) -> None:
    start = time.process_time()
    replies.broken_off(text)
    assert time.process_time() - start < 5


def test_where_replies_do_not_end_with_punctuation_by_custom_that_says_nothing(sets: Sets) -> None:
    """Casual chats: the check is null there, and nothing is claimed."""
    for number, row in enumerate(sets["alignment"]):
        if number % 3:
            change(sets, "alignment", number, chosen=(row.chosen or "").rstrip("."))
    frame = replies.set_columns([replies.reply_columns("alignment", sets["alignment"], ("en",), "en", ())])
    assert frame.loc[frame["part"] == "chosen", "cut_off"].eq(True).sum() == 0
    assert frame.loc[frame["part"] == "rejected", "cut_off"].eq(False).all()


def test_a_set_without_replies_has_none(sets: Sets) -> None:
    bare = [row.model_copy(update={"references": {}, "chosen": None, "rejected": None}) for row in sets["alignment"]]
    assert reasons({"alignment": bare}) == {}


def test_references_in_languages_that_the_settings_do_not_name_are_not_looked_at(sets: Sets) -> None:
    row = sets["evaluation"][3]
    change(sets, "evaluation", 3, references={**row.references, "fr": ""})
    assert reasons(sets) == {}


def lines(paths: Paths) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (paths.prompts / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()]


def test_held_replies_leave_their_rows_and_are_shown_and_counted(
    sets: Sets, languages: Languages, validate: Validate, put: Put, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way: quarantine, clean prompts, metrics, datacard, view, and a release."""
    change(sets, "alignment", 1, chosen="")
    change(sets, "alignment", 2, rejected=sets["alignment"][2].chosen)
    row = sets["evaluation"][3]
    change(sets, "evaluation", 3, references={**row.references, "en": SPANISH})
    paths = put(sets)
    stage.run(languages, validate, paths)
    found = {(line["id"], line["part"]): {reason["check"] for reason in line["reasons"]} for line in lines(paths)}
    assert found == {
        **{("a1", "chosen"): {"empty"}, ("a1", "rejected"): {"pair"}},
        **{("a2", "chosen"): {"identical"}, ("a2", "rejected"): {"identical"}, ("e3", "reference"): {"other_language"}},
    }
    clean = {row.id: row for name in sets for row in read_prompts(paths.prompts / f"{name}.jsonl")}
    for name, rows in sets.items():
        for before in rows:
            expected = before
            if before.id in ("a1", "a2"):
                expected = before.model_copy(update={"chosen": None, "rejected": None})
            if before.id == "e3":
                kept = {tag: reply for tag, reply in before.references.items() if tag != "en"}
                expected = before.model_copy(update={"references": kept})
            assert clean[before.id] == expected, name
    metrics = json.loads((paths.prompts / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["replies"]["alignment"]["chosen"]["en"] == {
        **{"texts": 60, "quarantined": 2, "unchecked": [], "reasons": {"empty": 1, "identical": 1}}
    }
    assert metrics["replies"]["evaluation"]["reference"]["en"]["reasons"] == {"other_language": 1}
    card = (paths.prompts / "datacard.md").read_text(encoding="utf-8")
    assert "| alignment | chosen | en | 60 | 2 | empty 1, identical 1 |" in card
    out = capsys.readouterr().out
    assert "alignment: 4 of 360 replies in quarantine\n" in out
    quarantine_list.show_list(paths, None, None, None, 50, False, ["chosen", "rejected"])
    out = capsys.readouterr().out
    assert "alignment a2 en rejected  identical" in out and "e3" not in out and "4 texts in quarantine" in out

    with pytest.raises(MlcError, match=r"alignment a2 en chosen.*identical cannot be released: .*fix one of them"):
        quarantine_edit.release(paths, ("alignment", "a2", "en", "chosen"), "why not", "Amina")
    quarantine_edit.release(paths, ("evaluation", "e3", "en", "reference"), "Spanish was asked for", "Amina")
    quarantine_edit.fix(paths, ("alignment", "a1", "en", "chosen"), "Yes, gladly.", "was empty", "Amina")
    stage.run(languages, validate, paths)
    assert {line["id"] for line in lines(paths)} == {"a2"}
    clean = {row.id: row for name in sets for row in read_prompts(paths.prompts / f"{name}.jsonl")}
    assert clean["e3"] == sets["evaluation"][3]
    assert (clean["a1"].chosen, clean["a1"].rejected) == ("Yes, gladly.", sets["alignment"][1].rejected)
    shown = quarantine_view.render_text(quarantine_view.describe(paths, "alignment", "a1", "en", None))
    assert "en chosen  not in quarantine\n    Yes, gladly.\n    fixed on " in shown
    shown = quarantine_view.render_text(quarantine_view.describe(paths, "alignment", "a2", "en", None))
    assert "en rejected  in quarantine" in shown and "identical: says the same as the chosen reply" in shown


@pytest.mark.parametrize("how", ["empty", "same"])
def test_pairs_that_teach_nothing_stop_the_pipeline(
    how: str, sets: Sets, languages: Languages, validate: Validate, put: Put
) -> None:
    """Finding 16: every pair empty, or of one reply."""
    for number, row in enumerate(sets["alignment"]):
        change(sets, "alignment", number, **({"chosen": ""} if how == "empty" else {"rejected": row.chosen}))
    paths = put(sets)
    with pytest.raises(QualityError) as raised:
        stage.run(languages, validate, paths)
    check = "empty" if how == "empty" else "identical"
    last = str(raised.value).splitlines()[-1]
    assert last.startswith("  alignment, en, pairs: 60 of 60 pairs of replies in quarantine (100.0%, ")
    assert f"{check} {60 if how == 'empty' else 120}" in last
    assert last.endswith("`mlc quarantine list --set alignment --language en --part chosen --part rejected`")
    assert not (paths.prompts / "alignment.jsonl").exists()


def test_a_pair_is_fixed_in_the_source_language_alone(put: Put, sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = put(sets)
    paths.params.write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(paths.root)
    options = ["--part", "chosen", "--text", "Ndiyo.", "--why", "typo", "--who", "Amina"]
    done = CliRunner().invoke(app, ["quarantine", "fix", "alignment", "a1", "sw", *options])
    assert isinstance(done.exception, MlcError) and "write en, not sw" in str(done.exception)
    done = CliRunner().invoke(app, ["quarantine", "fix", "alignment", "a1", "en", *options])
    assert done.exit_code == 0
    assert read_prompts(paths.data / "alignment.jsonl")[1].chosen == "Ndiyo."
    done = CliRunner().invoke(app, ["quarantine", "fix", "evaluation", "e1", "en", *options])
    assert isinstance(done.exception, MlcError) and "has no pair of replies" in str(done.exception)


def test_chunks_of_replies_are_as_the_whole(sets: Sets) -> None:
    rows = sets["alignment"]
    change(sets, "alignment", 8, prompts=rows[2].prompts, chosen=rows[2].chosen)
    whole = replies.set_columns([replies.reply_columns("alignment", rows, ("en",), "en", ())])
    parts = [replies.reply_columns("alignment", rows[at : at + 7], ("en",), "en", ()) for at in range(0, 60, 7)]
    pd.testing.assert_frame_equal(whole, replies.set_columns(parts))


def test_what_an_older_mlc_put_into_quarantine_is_about_prompts(put: Put, sets: Sets) -> None:
    paths = put(sets)
    old = {"set": "alignment", "id": "a1", "language": "sw", "text": "x", "source_text": "y", "reasons": []}
    paths.prompts.mkdir(parents=True)
    (paths.prompts / "quarantine.jsonl").write_text(json.dumps(old) + "\n", encoding="utf-8")
    assert [record["part"] for record in quarantine_edit.held(paths)] == ["prompt"]
