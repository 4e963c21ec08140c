"""What people do to the registry without mlc: versions deleted, aliases set, tags written, models registered again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import records
from typer.testing import CliRunner
from versions import NAME, Registry, settings

from mlc import cli
from mlc.errors import IntegrityError, MlcError
from mlc.evaluation import statistics
from mlc.files import write_json
from mlc.project import status
from mlc.registry import audit, promotion
from mlc.registry.ledger import described, rejection_reason
from mlc.registry.registration import outdated


@pytest.fixture
def registry(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Versions 1 and 2 were champion one after the other; version 3 is a better candidate."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(statistics, "RESAMPLES", 200)
    registry = Registry(tmp_path, store)
    registry.history(16, 8)
    monkeypatch.setattr("mlc.cli.registry.project", lambda: (settings(), registry.paths))
    return registry


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and output of `mlc registry`; an error that a person can act on as its line."""
    result = CliRunner().invoke(cli.app, ["registry", *arguments])
    if isinstance(result.exception, MlcError):
        return result.exception.exit_code, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def promote(registry: Registry) -> dict[str, str]:
    promotion.promote(registry.paths, settings(), "3", "Ann")
    return {"candidate": "3", "champion": "3"}


def approve(registry: Registry) -> dict[str, str]:
    promotion.approve(registry.paths, settings(), "3", "Ann", "good")
    return {"candidate": "3", "champion": "3"}


def reject(registry: Registry) -> dict[str, str]:
    promotion.reject(registry.paths, settings(), "3", "Ann", "rude")
    return {}


def register(registry: Registry) -> dict[str, str]:
    registry.promoted("3")
    return {"candidate": "3", "champion": "3"}


def delete(registry: Registry, *versions: str) -> None:
    for version in versions:
        registry.model.client.delete_model_version(NAME, version)


@pytest.mark.parametrize("move", [promote, approve, reject, register])
@pytest.mark.parametrize(
    ("gone", "champion", "previous_after"),
    [("1", "2", "2"), ("2", None, "1")],
    ids=["a former champion", "the champion"],
)
def test_a_deleted_version_is_named_and_skipped(
    registry: Registry,
    move: Callable[[Registry], dict[str, str]],
    gone: str,
    champion: str | None,
    previous_after: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    delete(registry, gone)
    assert run("verify")[0] == 7 and f"version {gone}, which is not in MLflow any more" in run("verify")[1]
    after = move(registry)
    said = [line for line in capsys.readouterr().err.splitlines() if "not in MLflow any more" in line]
    assert len(said) == 1 and f"version {gone}" in said[0]
    if "champion" in after:
        assert registry.aliases() == {**after, "previous": previous_after}
    else:  # nothing is promoted: there is the one before the deleted champion to go back to
        assert registry.aliases() == ({"champion": "2"} if champion else {"previous": "1"})
    assert not registry.model.faults()
    move(registry)
    assert "not in MLflow" not in capsys.readouterr().err


def test_a_deleted_champion_can_be_gone_back_from(registry: Registry) -> None:
    delete(registry, "2")
    assert promotion.rollback(registry.paths, settings(), "Ann", "it is gone") == "version 1 of by-hand is champion"
    assert registry.aliases() == {"candidate": "3", "champion": "1"}
    assert not registry.model.faults()
    with pytest.raises(MlcError, match="no previous champion to go back to"):
        promotion.rollback(registry.paths, settings(), "Ann")


def test_every_champion_may_be_deleted(registry: Registry) -> None:
    delete(registry, "1", "2")
    with pytest.raises(MlcError, match=r"no previous champion to go back to \(no longer in MLflow: version 1, 2\)"):
        promotion.rollback(registry.paths, settings(), "Ann")
    with pytest.raises(MlcError, match="has no version 2: `mlc registry list`"):
        promotion.promote(registry.paths, settings(), "2", "Ann")
    promote(registry)
    assert registry.aliases() == {"candidate": "3", "champion": "3"}
    assert run("verify", "all")[0] == 0


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("which", ["0", "9" * 30, "4294967296", "٤"])
def test_no_number_is_an_internal_error(which: str) -> None:
    for command in (["show"], ["verify"], ["promote"], ["reject", "--why", "x"]):
        code, text = run(command[0], which, *command[1:])
        assert code == 2 and f"has no version {which}" in text


def test_the_rejected_are_no_champions_by_hand(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    promotion.reject(registry.paths, settings(), "3", "Ann", "rude")
    registry.model.client.set_registered_model_alias(NAME, "champion", "3")
    for which in ("champion", "3", "all"):
        code, text = run("verify", which)
        assert code == 7 and "champion is version 3, which was rejected by Ann on " in text
    assert run("show", "champion")[0] == 7
    assert not any("champion" in line for line in run("list")[1].splitlines() if line.startswith("version   3"))
    assert status.find(NAME, registry.paths)["registry"]["champion"] is None
    with pytest.raises(IntegrityError, match="champion is version 3, which was rejected"):
        audit.run(settings(), registry.paths)
    with pytest.raises(MlcError, match="was rejected by Ann"):
        promotion.promote(registry.paths, settings(), "3", "Ben", "I want it")
    # Any move has repaired it, one that is refused too.
    assert "put there without mlc: now it is version 2" in capsys.readouterr().err
    assert registry.aliases() == {"champion": "2", "previous": "1"}
    assert not registry.model.faults()
    assert [entry["action"] for entry in registry.model.ledger()][-2:] == ["found", "repair"]


def test_the_rejected_keep_no_alias(registry: Registry) -> None:
    """Not even ``previous``, which a rollback would make champion."""
    promotion.reject(registry.paths, settings(), "1", "Ann", "rude")
    assert registry.aliases() == {"candidate": "3", "champion": "2"}
    for alias in ("previous", "candidate"):
        registry.model.client.set_registered_model_alias(NAME, alias, "1")
    with registry.model.moving():
        pass
    assert registry.aliases() == {"champion": "2"}
    promote(registry)
    promotion.promote(registry.paths, settings(), "2", "Ann", "back")
    assert registry.aliases() == {"champion": "2", "previous": "3"}
    promotion.reject(registry.paths, settings(), "3", "Ann", "rude")
    with pytest.raises(MlcError, match="no previous champion"):
        promotion.rollback(registry.paths, settings(), "Ann")


def test_no_champion_by_hand_where_there_was_none(registry: Registry) -> None:
    delete(registry, "1", "2")
    promotion.reject(registry.paths, settings(), "3", "Ann", "rude")
    registry.model.client.set_registered_model_alias(NAME, "champion", "3")
    with registry.model.moving():
        pass
    assert registry.aliases() == {}


def same_weights(registry: Registry, version: str) -> str:
    """A version of its own manifest whose weights are another's."""
    model = registry.root / "weights"
    shutil.copytree(registry.file(version, "artifacts/model"), model, ignore=shutil.ignore_patterns("manifest.json"))
    (model / "tokenizer.json").write_text("{}")
    return registry.add(model=model)


def same_manifest(registry: Registry, version: str) -> str:
    """The same files under a new number, as after `copy_model_version`, or MLflow's page."""
    original = registry.model.client.get_model_version(NAME, version)
    folder = registry.root / "versions" / str(len(registry.model.versions()) + 1)
    shutil.copytree(registry.root / "versions" / version, folder)
    created = registry.model.client.create_model_version(NAME, source=folder.as_uri(), tags=original.tags)
    return str(created.version)


@pytest.mark.parametrize("again", [same_weights, same_manifest])
@pytest.mark.parametrize("gone", [False, True], ids=["there", "deleted"])
def test_a_rejection_is_of_the_model_and_not_of_its_number(
    registry: Registry, again: Callable[[Registry, str], str], gone: bool
) -> None:
    promotion.reject(registry.paths, settings(), "3", "Ann", "rude")
    number = again(registry, "3")
    if gone:
        delete(registry, "3")
    with registry.model.moving():
        registry.model.move("register", "candidate", number)
    for move in (promotion.promote, promotion.approve):
        with pytest.raises(MlcError, match=r"was rejected by Ann on .*: rude \(as version 3\)"):
            move(registry.paths, settings(), number, "Ben", "I want it")
    assert registry.aliases()["champion"] == "2"


def test_what_was_rolled_back_is_not_promoted_by_itself_under_another_number(registry: Registry) -> None:
    promote(registry)
    promotion.rollback(registry.paths, settings(), "Ann", "rude")
    number = same_weights(registry, "3")
    delete(registry, "3")
    with pytest.raises(MlcError, match=r"without a reason \(rolled back by Ann on .*: rude \(as version 3\)\)"):
        promotion.promote(registry.paths, settings(), number, "Ben")
    promotion.promote(registry.paths, settings(), number, "Ben", "it was the judge")
    assert registry.aliases()["champion"] == number


def test_the_champions_weights_are_not_rejected_as_another_version(registry: Registry) -> None:
    number = same_weights(registry, "2")
    with pytest.raises(MlcError, match="has the weights of champion version 2"):
        promotion.reject(registry.paths, settings(), number, "Ann", "rude")


ENTRY = {
    **{"who": "Mallory", "when": "2026-01-01T00:00:00+00:00", "action": "promote", "alias": "champion"},
    **{"from": "1", "to": "2", "why": "", "verdict": None, "before": None},
}
KEY = "ledger.000099.20260101T000000.000000Z"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        (KEY, "garbage", "not JSON"),
        (KEY, "[" * 9000, "not JSON"),
        (KEY, "9" * 5000, "not JSON"),
        (KEY, "[]", "no JSON object"),
        (KEY, "{}", "field who: Field required"),
        (KEY, json.dumps({**ENTRY, "to": "9" * 40}), "field to: "),
        (KEY, json.dumps({**ENTRY, "to": 2}), "field to: "),
        (KEY, json.dumps({**ENTRY, "when": "yesterday"}), "field when: "),
        (KEY, json.dumps({**ENTRY, "when": "2026-01-01"}), "field when: "),
        (KEY, json.dumps({**ENTRY, "alias": "production"}), "field alias: "),
        (KEY, json.dumps({**ENTRY, "why": "\ud800"}), "not JSON"),
        (KEY, json.dumps({**ENTRY, "\x1b[2J": ""}), r"field \\x1b[2J: "),
        ("ledger.note", json.dumps(ENTRY), "no number and time in the tag's name"),
        (f"ledger.{'9' * 60}.20260101T000000.000000Z", json.dumps(ENTRY), "no number and time in the tag's name"),
    ],
)
def test_a_tag_made_by_hand_is_named(registry: Registry, key: str, value: str, fault: str) -> None:
    before = registry.aliases()
    registry.model.client.set_registered_model_tag(NAME, key, value)
    code, text = run("verify")
    assert code == 7 and key in text and fault in text and "\x1b" not in text
    for command in (
        ["list"], ["ledger"], ["show", "1"], ["rollback"], ["promote", "3"],
        ["approve", "3", "--why", "x"], ["reject", "3", "--why", "x"],
    ):  # fmt: skip
        code, text = run(*command)
        assert code == 7 and f"the tag {key} of by-hand is no entry of the ledger" in text, command
    assert status.find(NAME, registry.paths)["registry"]["faults"]
    assert registry.aliases() == before
    registry.model.client.delete_registered_model_tag(NAME, key)
    promote(registry)
    assert run("verify", "all")[0] == 0


def test_an_entry_by_hand_does_not_stop_what_follows(registry: Registry) -> None:
    """One that could be an entry: the chain shows it, and its large number and its missing version do no harm."""
    key = "ledger.000999999.20260101T000000.000000Z"
    registry.model.client.set_registered_model_tag(NAME, key, json.dumps({**ENTRY, "to": "2147483648"}))
    code, text = run("verify")
    assert code == 7 and "follows was changed or taken out" in text
    assert promote(registry)["champion"] == registry.aliases()["champion"]
    assert registry.aliases()["previous"] == "2"
    assert [entry["who"] for entry in registry.model.ledger()].index("Mallory") < len(registry.model.ledger()) - 1
    registry.model.client.set_registered_model_tag(
        NAME, f"ledger.{'9' * 12}.20260101T000000.000000Z", json.dumps(ENTRY)
    )
    with pytest.raises(IntegrityError, match=r"no entry can follow the tag ledger\.999999999999"):
        promotion.rollback(registry.paths, settings(), "Ann")


NASTY = "\x1b[2J\x9b1m\nchampion: 9 -> 9\u202e \x07"


def test_what_people_write_does_not_act_on_the_terminal(registry: Registry) -> None:
    promotion.reject(registry.paths, settings(), "3", f"Ann{NASTY}", NASTY)
    registry.model.client.set_model_version_tag(NAME, "1", "git_commit", NASTY)
    for command in (
        ["list"], ["list", "--json"], ["show", "3"], ["show", "3", "--json"], ["lineage", "1"],
        ["ledger"], ["ledger", "--json"], ["verify", "all"], ["promote", "3"],
    ):  # fmt: skip
        text = run(*command)[1]
        assert all(character.isprintable() or character == "\n" for character in text), command
        assert "\nchampion: 9" not in text
    (rejected,) = [entry for entry in registry.model.ledger() if entry["action"] == "reject" and not entry["alias"]]
    assert rejected["why"] == NASTY
    assert described(rejected).isprintable() and (rejection_reason([rejected], "3") or "").isprintable()


def test_why_has_to_fit_the_registry(registry: Registry) -> None:
    for why, message in (("\x00" * 1000, "has .* characters, 5000 at most"), ("\udcff", "not UTF-8 text")):
        with pytest.raises(MlcError, match=message):
            promotion.reject(registry.paths, settings(), "3", "Ann", why)
    assert registry.aliases()["candidate"] == "3"


def record(registry: Registry, **fields: Any) -> None:
    """The record of the project's last registration: version 2, which is champion."""
    content = {
        "model": NAME, "registered": True, "promoted": True, "version": "2", "champion": "2", "previous": "1",
        "manifest": registry.model.version("2").tags["manifest"], "ledger": registry.model.ledger(),
    }  # fmt: skip
    write_json(registry.paths.registration, records.registration(**content | fields))


def delete_model(registry: Registry) -> None:
    registry.model.client.delete_registered_model(NAME)


def rename_model(registry: Registry) -> None:
    registry.model.client.rename_registered_model(NAME, "other")


def unset(registry: Registry) -> None:
    registry.model.client.delete_registered_model_alias(NAME, "champion")


def delete_champion(registry: Registry) -> None:
    delete(registry, "2")


def cut(registry: Registry) -> None:
    key = list(registry.model._entries())[-1]
    registry.model.client.delete_registered_model_tag(NAME, key)


def another(registry: Registry) -> None:
    """A store in which the same number is another model."""
    delete_model(registry)
    registry.model.create()
    for _ in range(2):
        registry.model.client.create_model_version(NAME, source=registry.root.as_uri(), tags={"manifest": "f" * 64})
    registry.model.client.set_registered_model_alias(NAME, "champion", "2")


@pytest.mark.parametrize("spoil", [delete_model, rename_model, unset, delete_champion, cut, another])
def test_a_record_of_another_registry_is_outdated(registry: Registry, spoil: Callable[[Registry], None]) -> None:
    record(registry)
    assert outdated(registry.paths, registry.model) is None
    assert run("verify", "all")[0] == 0
    spoil(registry)
    assert outdated(registry.paths, registry.model)
    code, text = run("verify")
    assert code == 7, text
    found = status.find(NAME, registry.paths)
    assert any("`mlc run` registers again" in fault for fault in found["registry"]["faults"])
    assert "registers again" in status.render_text(found)


def test_all_versions_are_seen_however_many(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    original = registry.model.client.search_model_versions

    def paged(filter_string: str, max_results: int, page_token: str | None = None) -> Any:
        assert max_results == 1000
        return original(filter_string, max_results=1, page_token=page_token)

    monkeypatch.setattr(registry.model.client, "search_model_versions", paged)
    assert [str(version.version) for version in registry.model.versions()] == ["1", "2", "3"]
