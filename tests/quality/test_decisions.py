"""Releases and fixes: what people decide about quarantine holds for exactly what they looked at, and is kept."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlc.errors import MlcError
from mlc.files import write_jsonl
from mlc.paths import Paths
from mlc.prompts.schema import Provenance, read_prompts, write_prompts
from mlc.quality import quarantine_edit, stage
from mlc.quality.decisions import (
    NEVER_RELEASED,
    Fix,
    Key,
    Reason,
    Release,
    Releases,
    fixes_file,
    read_decisions,
    releases_file,
    text_hash,
)
from mlc.settings import Languages, Validate

from .conftest import Sets, with_text, world_rows

Put = Callable[[Sets], Paths]
LANGUAGES = Languages(source="en", served=("en", "sw"), transfer=())
KEY: Key = ("alignment", "a3", "sw")


def reason(check: str) -> dict[str, Any]:
    return Reason(check, None, None, "found")._asdict()


def hold(paths: Paths, key: Key, *checks: str) -> None:
    """Writes the quarantine that ``mlc validate`` writes for one variant as it is in the data."""
    write_jsonl(paths.prompts / "quarantine.jsonl", [held(paths, key, *checks)])


def held(paths: Paths, key: Key, *checks: str) -> dict[str, Any]:
    row = next(row for row in read_prompts(paths.data / f"{key[0]}.jsonl") if row.id == key[1])
    record: dict[str, Any] = {"set": key[0], "id": key[1], "language": key[2], "text": row.prompts[key[2]]}
    return record | {"source_text": row.prompts["en"], "reasons": [reason(check) for check in checks]}


def edit(paths: Paths, row_id: str, tag: str, text: str) -> None:
    path = paths.data / "alignment.jsonl"
    write_prompts(path, [with_text(r, tag, text) if r.id == row_id else r for r in read_prompts(path)])


@pytest.fixture
def paths(put: Put) -> Paths:
    """A project in which alignment row a3 was left in English in Swahili."""
    sets = {
        "alignment": world_rows("alignment", 12, ("en", "sw")),
        "evaluation": world_rows("evaluation", 8, ("en", "sw")),
    }
    sets["alignment"][3] = with_text(sets["alignment"][3], "sw", sets["alignment"][3].prompts["en"])
    return put(sets)


def test_validate_obeys_a_release_for_what_was_looked_at_and_no_longer(
    paths: Paths, validate: Validate, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way, through the stage, with a training row in too few languages and an evaluation row in as few."""
    lenient = {"maximum_quarantined": 1.0, "minimum_coverage": 0.0, "minimum_language_share": 0.0}
    validate = validate.model_copy(update=lenient)
    rows = read_prompts(paths.data / "evaluation.jsonl")
    write_prompts(paths.data / "evaluation.jsonl", [with_text(rows[0], "sw", rows[0].prompts["en"]), *rows[1:]])

    def run() -> tuple[dict[Key, list[dict[str, Any]]], dict[str, Any], str]:
        stage.run(LANGUAGES, validate, paths)
        held = {(r["set"], r["id"], r["language"]): r["reasons"] for r in quarantine_edit.held(paths)}
        metrics = json.loads((paths.prompts / "metrics.json").read_text(encoding="utf-8"))
        return held, metrics, (paths.prompts / "datacard.md").read_text(encoding="utf-8")

    held, metrics, card = run()
    assert "untranslated" in [one["check"] for one in held[KEY]]
    message = "its row is good in 1 of the served languages"
    assert held["alignment", "a3", "en"] == [Reason("minimum_languages", 1, 2, message)._asdict()]
    assert metrics["rows"]["alignment"] == {"read": 12, "clean": 11, "dropped_by_rule": 1, "kept_incomplete": 0}
    assert metrics["rows"]["evaluation"] == {"read": 8, "clean": 8, "dropped_by_rule": 0, "kept_incomplete": 1}
    of = metrics["alignment"]["en"]
    assert (of["variants"], of["clean"], of["quarantined"], of["dropped_by_rule"]) == (12, 11, 0, 1)
    assert "Nothing was released." in card

    quarantine_edit.release(paths, KEY, "a brand name", "Amina")
    held, metrics, card = run()
    assert {key for key in held if key[1] == "a3"} == set()
    clean = {row.id: row for row in read_prompts(paths.prompts / "alignment.jsonl")}
    assert clean["a3"].prompts["sw"] == clean["a3"].prompts["en"]
    assert [metrics["alignment"][tag]["released"] for tag in ("en", "sw")] == [0, 1]
    assert metrics["rows"]["alignment"] == {"read": 12, "clean": 12, "dropped_by_rule": 0, "kept_incomplete": 0}
    assert "Amina | a brand name" in card and "| yes |" in card

    edit(paths, "a3", "sw", clean["a3"].prompts["en"] + " please")
    capsys.readouterr()
    held, metrics, card = run()
    assert KEY in held
    assert "the release of alignment a3 sw" in capsys.readouterr().out
    assert metrics["alignment"]["sw"]["released"] == 0
    assert "Amina | a brand name" in card and "| stale |" in card


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["length_deviation", "untranslated", "script_share", "duplicate_of"])),
    st.lists(st.sampled_from(["length_deviation", "untranslated", "other"]), min_size=1),
    st.sampled_from(["text", "another"]),
    st.sampled_from(["source", "another", None]),
)
def test_a_release_waives_its_checks_of_its_text_and_nothing_else(
    failing: list[str], waived: list[str], text: str, source_text: str | None
) -> None:
    release = Release.model_validate_json(
        json.dumps(
            {
                **{"set": "alignment", "id": "x", "language": "sw", "who": "A", "why": "B"},
                **{"when": "2026-01-01T00:00:00Z", "checks": waived},
                **{"sha256": text_hash("text"), "source_sha256": text_hash("source")},
            }
        )
    )
    reasons = [Reason(check, None, None, "found") for check in failing]
    releases = Releases([release])
    left = releases.left(release.key, text, source_text, reasons)
    holds = (text, source_text) == ("text", "source")
    assert left == ([one for one in reasons if one.check not in waived] if holds else reasons)
    assert releases.stale() == ([] if holds else [release])
    expected = {release.key: tuple(sorted({*failing} & {*waived}))} if holds and {*failing} & {*waived} else {}
    assert releases.waived == expected
    for key in (("tuning", "x", "sw"), ("alignment", "y", "sw"), ("alignment", "x", "en")):
        assert releases.left(key, "text", "source", reasons) == reasons


def test_a_release_says_who_why_when_and_what(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    hold(paths, KEY, "untranslated", "length_deviation")
    quarantine_edit.release(paths, KEY, "a brand name", "Amina")
    (line,) = releases_file(paths).read_text(encoding="utf-8").splitlines()
    text = text_hash(read_prompts(paths.data / "alignment.jsonl")[3].prompts["en"])
    when = json.loads(line).pop("when")
    assert json.loads(line) == {
        **{"set": "alignment", "id": "a3", "language": "sw", "who": "Amina", "why": "a brand name", "when": when},
        **{"checks": ["untranslated", "length_deviation"], "sha256": text, "source_sha256": text},
    }
    output = capsys.readouterr().out
    assert "`dvc add data`" in output and "`mlc validate`" in output

    quarantine_edit.release(paths, KEY, "again", "Ben")
    assert releases_file(paths).read_text(encoding="utf-8").splitlines() == [line]
    assert "already released" in capsys.readouterr().out

    hold(paths, KEY, "untranslated", "script_share")
    quarantine_edit.release(paths, KEY, "it fails another check by now", "Ben")
    assert [release.checks for release in read_decisions(releases_file(paths), Release)] == [
        ("untranslated", "length_deviation"),
        ("untranslated", "script_share"),
    ]


@pytest.mark.parametrize("check", NEVER_RELEASED)
def test_what_nobody_can_answer_for_is_not_released(check: str, paths: Paths) -> None:
    hold(paths, KEY, "untranslated", check)
    with pytest.raises(MlcError, match=rf"alignment a3 sw, field checks\.1: {check} cannot be released: .+") as raised:
        quarantine_edit.release(paths, KEY, "why not", "Amina")
    assert "\n" not in str(raised.value)
    assert not releases_file(paths).exists()


@pytest.mark.parametrize("who, why, field", [("Amina", " ", "why"), ("\t", "a name", "who"), ("", "a name", "who")])
def test_who_and_why_are_needed(who: str, why: str, field: str, paths: Paths) -> None:
    hold(paths, KEY, "untranslated")
    before = (paths.data / "alignment.jsonl").read_bytes()
    with pytest.raises(MlcError, match=rf"alignment a3 sw, field {field}: is empty"):
        quarantine_edit.release(paths, KEY, why, who)
    with pytest.raises(MlcError, match=rf"alignment a3 sw, field {field}: is empty"):
        quarantine_edit.fix(paths, KEY, "Ninawezaje?", why, who)
    assert {path.name for path in paths.data.iterdir()} == {"alignment.jsonl", "evaluation.jsonl"}
    assert (paths.data / "alignment.jsonl").read_bytes() == before


def test_who_is_git_s_user_and_asked_for_where_there_is_none(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, os.devnull)
    hold(paths, KEY, "untranslated")
    with pytest.raises(MlcError, match="give --who"):
        quarantine_edit.release(paths, KEY, "a name")
    subprocess.run(["git", "init", "-q", paths.root], check=True)
    subprocess.run(["git", "-C", paths.root, "config", "user.name", "Zoë"], check=True)
    quarantine_edit.release(paths, KEY, "a name")
    assert read_decisions(releases_file(paths), Release)[0].who == "Zoë"


def test_what_is_not_in_quarantine_or_is_another_text_by_now_is_not_released(paths: Paths) -> None:
    hold(paths, KEY, "untranslated")
    with pytest.raises(MlcError, match="alignment a4 sw is not in quarantine"):
        quarantine_edit.release(paths, ("alignment", "a4", "sw"), "why", "Amina")
    edit(paths, "a3", "sw", "Ninawezaje?")
    with pytest.raises(MlcError, match="another since it was validated: run `mlc validate` first"):
        quarantine_edit.release(paths, KEY, "why", "Amina")
    (paths.prompts / "quarantine.jsonl").unlink()
    with pytest.raises(MlcError, match=r"quarantine\.jsonl does not exist: run `mlc validate` first"):
        quarantine_edit.release(paths, KEY, "why", "Amina")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"checks": ["leaked_from"]}, r"line 2, field checks\.0: leaked_from cannot be released"),
        ({"checks": []}, "line 2, field checks: "),
        ({"why": ""}, "line 2, field why: is empty"),
        ({"set": "training"}, "line 2, field set: "),
        ({"sha256": "abc"}, "line 2, field sha256: "),
        ({"when": "yesterday"}, "line 2, field when: "),
        ({"langauge": "sw"}, "line 2, field langauge: "),
    ],
)
def test_a_bad_line_by_hand_is_named(change: dict[str, Any], message: str, paths: Paths) -> None:
    hold(paths, KEY, "untranslated")
    quarantine_edit.release(paths, KEY, "a name", "Amina")
    path = releases_file(paths)
    good = path.read_text(encoding="utf-8")
    path.write_text(good + json.dumps(json.loads(good) | change), encoding="utf-8")
    with pytest.raises(MlcError, match=message):
        read_decisions(path, Release)
    path.write_text(good + "{", encoding="utf-8")
    with pytest.raises(MlcError, match=r"releases\.jsonl, line 2: .*JSON"):
        read_decisions(path, Release)


def test_people_who_decide_at_once_lose_nothing(paths: Paths) -> None:
    def decide(number: int) -> None:
        quarantine_edit.fix(
            paths, ("alignment", f"a{number}", "sw"), f"Ninawezaje {number}?", "typo", f"person {number}"
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decide, range(8)))
    assert {fix.who for fix in read_decisions(fixes_file(paths), Fix)} == {f"person {number}" for number in range(8)}
    texts = [row.prompts["sw"] for row in read_prompts(paths.data / "alignment.jsonl")[:8]]
    assert texts == [f"Ninawezaje {number}?" for number in range(8)]


@pytest.fixture
def local_prices(paths: Paths) -> Paths:
    """Four variants in quarantine, three of them for localised amounts, one of these for another check as well."""
    lines = [
        held(paths, ("alignment", "a4", "sw"), "localised_amount"),
        held(paths, ("alignment", "a5", "sw"), "localised_amount", "misplaced"),
        held(paths, ("alignment", "a6", "sw"), "lost"),
        held(paths, ("evaluation", "e2", "sw"), "localised_amount"),
    ]
    write_jsonl(paths.prompts / "quarantine.jsonl", lines)
    return paths


def test_a_kind_is_released_in_one_command_for_each_text_as_it_is(
    local_prices: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = local_prices
    quarantine_edit.release_kind(paths, "localised_amount", "prices are local", "Amina", name="evaluation")
    assert [release.key for release in read_decisions(releases_file(paths), Release)] == [("evaluation", "e2", "sw")]
    quarantine_edit.release_kind(paths, "localised_amount", "prices are local", "Amina")
    released = read_decisions(releases_file(paths), Release)
    assert [release.key[1] for release in released] == ["e2", "a4", "a5"]
    assert all(release.checks == ("localised_amount",) for release in released)
    printed = capsys.readouterr().out
    assert "2 of 3 variants are released from localised_amount" in printed
    assert "1 were released before" in printed and "1 of them fail other checks as well" in printed
    reasons = [Reason("localised_amount", None, None, "found"), Reason("misplaced", None, None, "found")]
    text, source = (read_prompts(paths.data / "alignment.jsonl")[5].prompts[tag] for tag in ("sw", "en"))
    assert [r.check for r in Releases(released).left(("alignment", "a5", "sw"), text, source, reasons)] == ["misplaced"]


def test_only_kinds_that_may_be_right_are_released_together(local_prices: Paths) -> None:
    paths = local_prices
    with pytest.raises(MlcError, match="lost is released text by text, with `mlc quarantine release`"):
        quarantine_edit.release_kind(paths, "lost", "why not", "Amina")
    with pytest.raises(MlcError, match="nothing is in quarantine for localised_amount"):
        quarantine_edit.release_kind(paths, "localised_amount", "prices are local", "Amina", language="es")
    edit(paths, "a5", "sw", "Nyingine kabisa")
    with pytest.raises(MlcError, match="the text of alignment a5 sw is another since it was validated"):
        quarantine_edit.release_kind(paths, "localised_amount", "prices are local", "Amina")
    assert not releases_file(paths).exists()


def test_a_file_that_is_a_link_into_dvc_s_cache_stays_as_it_is_there(paths: Paths, tmp_path: Path) -> None:
    hold(paths, KEY, "untranslated")
    quarantine_edit.release(paths, KEY, "a name", "Amina")
    cached = {}
    for name in ("releases.jsonl", "alignment.jsonl"):
        os.link(paths.data / name, tmp_path / name)
        cached[name] = (tmp_path / name).read_bytes()
    hold(paths, KEY, "script_share")
    quarantine_edit.release(paths, KEY, "a name", "Amina")
    quarantine_edit.fix(paths, KEY, "Ninawezaje?", "left in English", "Amina")
    assert {name: (tmp_path / name).read_bytes() for name in cached} == cached
    assert releases_file(paths).read_bytes().startswith(cached["releases.jsonl"])


ROW = {"source": "s", "category": "c", "intent": "benign"}
texts = st.text(st.characters(codec="utf-8"), min_size=1)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(texts, st.booleans(), st.sampled_from(["\n", "\r\n", "\n\n", "  \n"])), min_size=1, max_size=5),
    st.data(),
    texts.filter(str.strip),
    st.booleans(),
)
def test_a_fix_changes_one_text_and_no_other_byte(
    rows: list[tuple[str, bool, str]], data: st.DataObject, text: str, ended: bool
) -> None:
    lines = []
    for number, (content, ascii_alone, ending) in enumerate(rows):
        row = {"category": "c", "prompts": {"sw": content, "en": "Hello"}, "id": f"x{number}", **ROW}
        row |= {"provenance": {"sw": {"translator": "nllb"}, "en": {"translator": "human"}}}
        row |= {"back_translations": {"sw": "Hi"}}
        lines.append(json.dumps(row, ensure_ascii=ascii_alone).encode() + ending.encode())
    if not ended:
        lines[-1] = lines[-1].rstrip()
    which = data.draw(st.integers(0, len(rows) - 1))
    with TemporaryDirectory() as folder:
        paths = Paths(Path(folder))
        paths.data.mkdir()
        path = paths.data / "tuning.jsonl"
        path.write_bytes(b"".join(lines))
        before = read_prompts(path)
        key: Key = ("tuning", f"x{which}", "sw")
        quarantine_edit.fix(paths, key, text, "wrong", "Amina")
        quarantine_edit.fix(paths, key, text, "wrong, again", "Amina")
        start, end = len(b"".join(lines[:which])), len(b"".join(lines[which + 1 :]))
        after = path.read_bytes()
        assert after[:start] == b"".join(lines[:which])
        assert after[len(after) - end :] == b"".join(lines[which + 1 :])
        fixed = read_prompts(path)
        assert fixed[:which] + fixed[which + 1 :] == before[:which] + before[which + 1 :]
        old = before[which]
        if old.prompts["sw"] == text:
            assert fixed == before and not fixes_file(paths).exists()
            return
        assert fixed[which] == old.model_copy(
            update={
                "prompts": old.prompts | {"sw": text},
                "provenance": old.provenance | {"sw": Provenance(translator="human: Amina")},
                "back_translations": {},
            }
        )
        (fix,) = read_decisions(fixes_file(paths), Fix)
        assert (fix.before, fix.after, fix.why) == (old.prompts["sw"], text, "wrong")
        assert (fix.provenance, fix.back_translation) == (Provenance(translator="nllb"), "Hi")


def test_a_fix_that_was_interrupted_is_completed(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> bytes:
        raise KeyboardInterrupt

    before = (paths.data / "alignment.jsonl").read_bytes()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(quarantine_edit, "_with_text", stopped)
        quarantine_edit.fix(paths, KEY, "Ninawezaje?", "left in English", "Amina")
    assert (paths.data / "alignment.jsonl").read_bytes() == before
    assert read_decisions(fixes_file(paths), Fix)[0].before is not None
    quarantine_edit.fix(paths, KEY, "Ninawezaje?", "left in English", "Amina")
    assert read_prompts(paths.data / "alignment.jsonl")[3].prompts["sw"] == "Ninawezaje?"
    assert len(read_decisions(fixes_file(paths), Fix)) == 1
    assert {path.name for path in paths.data.iterdir()} == {"alignment.jsonl", "evaluation.jsonl", "fixes.jsonl"}


def test_a_missing_text_is_added(paths: Paths) -> None:
    quarantine_edit.fix(paths, ("evaluation", "e2", "zh"), "怎么做？", "was never translated", "Amina")
    row = read_prompts(paths.data / "evaluation.jsonl")[2]
    assert row.prompts["zh"] == "怎么做？"
    assert read_decisions(fixes_file(paths), Fix)[0].before is None


@pytest.mark.parametrize(
    "key, text, message",
    [
        (("alignment", "nobody", "sw"), "x", r"alignment\.jsonl has no row 'nobody'"),
        (("tuning", "a3", "sw"), "x", r"tuning\.jsonl does not exist: run `dvc pull data\.dvc` first"),
        (("alignment", "a3", "SW"), "x", "alignment a3 SW, field language: .*write 'sw'"),
        (("alignment", "a3", "sw"), " \n", "the new text of alignment a3 sw is empty"),
        (("alignment", "a3", "sw"), "\udcff", "alignment a3 sw, field after: is not UTF-8 text"),
    ],
)
def test_a_fix_that_cannot_be_is_refused_and_changes_nothing(key: Key, text: str, message: str, paths: Paths) -> None:
    before = {path.name: path.read_bytes() for path in paths.data.iterdir()}
    with pytest.raises(MlcError, match=message):
        quarantine_edit.fix(paths, key, text, "why", "Amina")
    assert {path.name: path.read_bytes() for path in paths.data.iterdir()} == before


def test_a_text_comes_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"Ninawezaje\r\nkufanya?\r\n")
    assert quarantine_edit.read_text(path) == "Ninawezaje\r\nkufanya?"
    path.write_bytes(b"\xff")
    with pytest.raises(MlcError, match=r"not UTF-8 text \(byte 0\)"):
        quarantine_edit.read_text(path)
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(MlcError, match="is no file"):
            quarantine_edit.read_text(missing)
