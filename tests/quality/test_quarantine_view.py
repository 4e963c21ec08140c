"""The commands around quarantine, in a project of their own: what they print, and that hostile texts do nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hostile import HOSTILE
from typer.testing import CliRunner, Result

from mlc.cli import app
from mlc.errors import MlcError
from mlc.files import write_jsonl
from mlc.paths import Paths
from mlc.prompts.schema import PromptRow, read_prompts, write_prompts
from mlc.quality.decisions import Fix, Reason, Release, fixes_file, read_decisions, releases_file
from mlc.text import visible

from .conftest import with_text, world_rows

ROOT = Path(__file__).parents[2]
ENCODABLE = [text for text in HOSTILE if "\ud800" not in text]


def record(name: str, row: PromptRow, tag: str, *reasons: Reason) -> dict[str, Any]:
    line = {"set": name, "id": row.id, "language": tag, "part": "prompt", "text": row.prompts[tag]}
    line |= {"source_text": row.prompts["en"]}
    return {**line, "reasons": [reason._asdict() for reason in reasons]}


SHARE = Reason("script_share", 0.125, 0.5, "0.12 of the letters are in the script of zh")
COPY = Reason("untranslated", None, None, "is the source text")


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """Two variants of a0 and one of e1 in quarantine."""
    paths = Paths(tmp_path)
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", paths.params)
    sets = {"alignment": world_rows("alignment", 3), "evaluation": world_rows("evaluation", 2)}
    for name, rows in sets.items():
        write_prompts(paths.data / f"{name}.jsonl", rows)
    a, e = sets["alignment"][0], sets["evaluation"][1]
    lines = [record("alignment", a, "sw", COPY), record("alignment", a, "zh", SHARE, COPY)]
    write_jsonl(paths.prompts / "quarantine.jsonl", [*lines, record("evaluation", e, "sw", COPY)])
    return paths


def mlc(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["quarantine", *arguments])


def test_the_list_counts_and_shows(paths: Paths) -> None:
    text = read_prompts(paths.data / "alignment.jsonl")[0].prompts["zh"]
    lines = mlc("list").stdout.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["alignment", "sw", "untranslated", "1"],
        ["alignment", "zh", "script_share", "1,", "untranslated", "1"],
        ["evaluation", "sw", "untranslated", "1"],
    ]
    assert lines[3] == "3 variants in quarantine"
    assert lines[6:8] == ["alignment a0 zh  script_share, untranslated", f"    {text}"]
    assert len(lines) == 10


@pytest.mark.parametrize(
    "filters, keys",
    [
        ([], [("alignment", "sw"), ("alignment", "zh"), ("evaluation", "sw")]),
        (["--set", "alignment"], [("alignment", "sw"), ("alignment", "zh")]),
        (["--language", "sw"], [("alignment", "sw"), ("evaluation", "sw")]),
        (["--check", "script_share"], [("alignment", "zh")]),
        (["--set", "evaluation", "--language", "zh"], []),
    ],
)
def test_filters_choose(filters: list[str], keys: list[tuple[str, str]], paths: Paths) -> None:
    whole = (paths.prompts / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
    chosen = [json.loads(line) for line in mlc("list", "--json", *filters).stdout.splitlines()]
    assert [(one["set"], one["language"]) for one in chosen] == keys
    assert all(one in map(json.loads, whole) for one in chosen)
    assert f"{len(keys)} variant" in mlc("list", *filters).stdout


@pytest.mark.usefixtures("paths")
def test_a_long_list_is_cut_and_says_so() -> None:
    out = mlc("list", "--limit", "1").stdout
    assert "alignment a0 sw" in out and "alignment a0 zh" not in out
    assert out.endswith("and 2 more: --limit 3, or --json, shows them\n")


@pytest.mark.usefixtures("paths")
def test_a_check_that_holds_nothing_is_named_with_those_that_do() -> None:
    raised = mlc("list", "--check", "script").exception
    assert isinstance(raised, MlcError)
    assert str(raised).endswith("'script'; the checks that put anything there: script_share, untranslated")


def test_an_empty_quarantine_and_none_are_different(paths: Paths) -> None:
    (paths.prompts / "quarantine.jsonl").write_text("")
    assert mlc("list").stdout == "0 variants in quarantine\n"
    (paths.prompts / "quarantine.jsonl").unlink()
    raised = mlc("list").exception
    assert isinstance(raised, MlcError) and "run `mlc validate` first" in str(raised)


def test_a_row_is_shown_with_reasons_values_and_thresholds(paths: Paths) -> None:
    row = read_prompts(paths.data / "alignment.jsonl")[0]
    out = mlc("show", "alignment", "a0").stdout
    for text in (*row.prompts.values(), *row.references.values(), row.category, "from: human"):
        assert text in out
    assert f"{SHARE.message} (value 0.125, threshold 0.5)\n" in out
    assert "zh  in quarantine\n" in out and "bn  not in quarantine\n" in out
    alone = mlc("show", "alignment", "a0", "--language", "zh").stdout
    assert row.prompts["zh"] in alone and row.prompts["en"] in alone and row.prompts["sw"] not in alone


def test_a_row_for_programs_has_the_same(paths: Paths) -> None:
    row = read_prompts(paths.data / "alignment.jsonl")[0]
    output = json.loads(mlc("show", "alignment", "a0", "--json", "--language", "zh").stdout)
    assert (output["set"], output["id"], output["category"], output["chosen"]) == (
        "alignment", "a0", row.category, row.chosen,
    )  # fmt: skip
    assert {tag: variant["text"] for tag, variant in output["variants"].items()} == {
        tag: row.prompts[tag] for tag in ("en", "zh")
    }
    held = output["variants"]["zh"]["quarantine"]["reasons"]
    checks = [(reason["check"], reason["threshold"]) for reason in held]
    assert checks == [("script_share", 0.5), ("untranslated", None)]
    assert output["variants"]["en"]["quarantine"] is None


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["alignment", "nobody"], "has no row 'nobody'"),
        (["alignment", "a0", "--language", "fr"], "alignment a0 has no 'fr': it has en, sw, zh, bn"),
        (["tuning", "a0"], "does not exist"),
    ],
)
@pytest.mark.usefixtures("paths")
def test_what_is_not_there_is_said(arguments: list[str], message: str) -> None:
    raised = mlc("show", *arguments).exception
    assert isinstance(raised, MlcError) and message in str(raised)


def test_released_and_fixed_by_command_and_shown(paths: Paths) -> None:
    before = read_prompts(paths.data / "alignment.jsonl")[0].prompts["sw"]
    who = ["--who", "Amina"]
    assert mlc("release", "alignment", "a0", "zh", "--why", "names", *who).exit_code == 0
    assert read_decisions(releases_file(paths), Release)[0].checks == ("script_share", "untranslated")
    assert "alignment a0 zh  script_share, untranslated  (released: `mlc validate` lets it pass)" in mlc("list").stdout
    (paths.root / "text").write_text("Ninawezaje?\n")
    assert mlc("fix", "alignment", "a0", "sw", "--file", "text", "--why", "typo", *who).exit_code == 0
    assert read_decisions(fixes_file(paths), Fix)[0].before == before
    out = mlc("show", "alignment", "a0").stdout
    assert "    released from script_share, untranslated on " in out and " by Amina: names\n" in out
    assert f" by Amina: typo\n      before: {before}\n" in out
    variants = json.loads(mlc("show", "alignment", "a0", "--json").stdout)["variants"]
    assert [len(variants[tag][what]) for tag in ("zh", "sw") for what in ("releases", "fixes")] == [1, 0, 0, 1]
    assert f"    was, when it was validated: {before}\n" in out
    assert "from: human: Amina\n" in out


@pytest.mark.parametrize("texts", [[], ["--text", "a", "--file", "text"]])
@pytest.mark.usefixtures("paths")
def test_a_fix_takes_one_text(texts: list[str]) -> None:
    raised = mlc("fix", "alignment", "a0", "sw", "--why", "typo", "--who", "A", *texts).exception
    assert isinstance(raised, MlcError) and "--text" in str(raised)


@pytest.mark.parametrize("command", ["release", "fix"])
@pytest.mark.usefixtures("paths")
def test_why_is_asked_for(command: str) -> None:
    done = mlc(command, "alignment", "a0", "sw", "--who", "A")
    assert done.exit_code == 2 and "--why" in done.stderr


@pytest.mark.parametrize("text", ENCODABLE)
def test_hostile_texts_are_shown_and_do_nothing(text: str, paths: Paths) -> None:
    row = world_rows("alignment", 1)[0]
    row = with_text(row, "sw", text).model_copy(update={"category": text, "chosen": text, "rejected": text})
    row = row.model_copy(update={"id": text, "back_translations": {"sw": text}, "references": {"sw": text}})
    write_prompts(paths.data / "alignment.jsonl", [row])
    reason = Reason("chatter", text, None, f"says {text}")
    write_jsonl(paths.prompts / "quarantine.jsonl", [record("alignment", row, "sw", reason)])
    printed = [mlc("list", *arguments).stdout for arguments in ([], ["--json"])]
    printed.append(mlc("release", "alignment", text, "sw", "--why", text, "--who", text).stdout)
    options = ["--text", f"{text}!", "--why", text, "--who", text]
    printed.append(mlc("fix", "alignment", text, "sw", *options).stdout)
    printed += [mlc("show", "alignment", text, *arguments).stdout for arguments in ([], ["--json"])]
    for out in printed:
        assert visible(text) in out or json.dumps(text)[1:-1] in out
        assert set(out) <= {"\n"} | set(visible(out))
    assert read_prompts(paths.data / "alignment.jsonl")[0].prompts["sw"] == f"{text}!"
    assert read_decisions(fixes_file(paths), Fix)[0].before == text
