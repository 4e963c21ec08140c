"""Nothing becomes champion that is not verified, and nobody's decision is undone by the next run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import records
from typer.testing import CliRunner
from versions import NAME, Registry, settings

from mlc import cli
from mlc.errors import IntegrityError, MlcError
from mlc.evaluation import statistics
from mlc.files import sha256, sha256_folder, write_json
from mlc.registry import promotion
from mlc.registry.verify import EVIDENCE, FILES, MODEL, differences


@pytest.fixture
def registry(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """Version 1 is champion, version 2 a better candidate."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(statistics, "RESAMPLES", 200)
    registry = Registry(tmp_path, store)
    registry.history(16)
    return registry


def differences_of(registry: Registry, version: str = "2") -> list[str]:
    return differences(registry.model, version, registry.root / "versions" / version)


def weights(registry: Registry) -> None:
    registry.file("2", f"{MODEL}/model.safetensors").write_bytes(b"others")


def code(registry: Registry) -> None:
    registry.file("2", "pyfunc_model.py").write_text("import os")


def verdict(registry: Registry) -> None:
    file = registry.file("2", f"{EVIDENCE}/verdict.json")
    write_json(file, json.loads(file.read_text()) | {"passed": True, "notes": ["all is well"]})


def verdict_and_list(registry: Registry) -> None:
    """Whoever can write to the store, but not to the registry."""
    verdict(registry)
    listed = registry.file("2", FILES)
    listed.unlink()
    write_json(listed, sha256_folder(registry.file("2", "")))


def everything(registry: Registry) -> None:
    """Whoever can write to both: the ledger still has the hash of the verdict."""
    verdict_and_list(registry)
    for tag, file in (("files", FILES), ("verdict", f"{EVIDENCE}/verdict.json")):
        registry.model.client.set_model_version_tag(NAME, "2", tag, sha256(registry.file("2", file)))


def gone(registry: Registry) -> None:
    registry.file("2", f"{MODEL}/model.safetensors").unlink()


def pickle(registry: Registry) -> None:
    registry.file("2", f"{MODEL}/training_args.bin").write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "difference"),
    [
        (weights, f"changed: {MODEL}/model.safetensors"),
        (code, "added: pyfunc_model.py"),
        (verdict, "the verdict is not the one that was registered"),
        (verdict_and_list, f"{FILES} is not the one that was registered"),
        (everything, "the verdict's hash in the version's tag is not the one in the ledger"),
        (gone, f"missing: {MODEL}/model.safetensors"),
        (pickle, f"pickles: {MODEL}/training_args.bin"),
    ],
)
def test_what_differs_is_named_and_never_promoted(
    registry: Registry, spoil: Callable[[Registry], None], difference: str
) -> None:
    assert differences_of(registry) == []
    spoil(registry)
    assert difference in differences_of(registry)
    before = registry.aliases()
    for move in (
        lambda: promotion.promote(registry.paths, settings(), "2", "Ann", "I want it"),
        lambda: promotion.approve(registry.paths, settings(), "2", "Ann", "I want it"),
    ):
        with pytest.raises(IntegrityError, match="version 2 of by-hand is not what was registered"):
            move()
    assert registry.aliases() == before


def test_a_rollback_to_something_else_than_was_registered_is_refused(registry: Registry) -> None:
    promotion.promote(registry.paths, settings(), "2", "Ann")
    before = registry.aliases()
    registry.file("1", f"{MODEL}/model.safetensors").write_bytes(b"others")
    with pytest.raises(IntegrityError, match="version 1"):
        promotion.rollback(registry.paths, settings(), "Ann")
    registry.file("1", f"{MODEL}/model.safetensors").unlink()
    (registry.root / "versions" / "1").rename(registry.root / "lost")
    with pytest.raises(MlcError, match=r"version 1 .* cannot be read .*: bring its files back"):
        promotion.rollback(registry.paths, settings(), "Ann")
    assert registry.aliases() == before


def test_a_failed_verdict_is_not_promoted_by_anybody(registry: Registry) -> None:
    failed = registry.add(passed=False)
    with pytest.raises(IntegrityError, match="the verdict did not pass"):
        promotion.promote(registry.paths, settings(), failed, "Ann", "I want it")


def test_a_verdict_without_a_served_language_is_not_promoted(registry: Registry) -> None:
    english = registry.add(languages=("en",))
    with pytest.raises(MlcError, match=r"does not fit its own rules or languages\.served"):
        promotion.promote(registry.paths, settings(), english, "Ann", "I want it")


def test_a_loser_is_promoted_with_a_reason_alone(registry: Registry) -> None:
    promotion.promote(registry.paths, settings(), "2", "Ann")
    with pytest.raises(MlcError, match=r"without a reason .*champion version 2 stays: .*: add --why"):
        promotion.promote(registry.paths, settings(), "1", "Ann", " ")
    promotion.promote(registry.paths, settings(), "1", "Ann", "2 is too slow")
    assert registry.aliases() == {"candidate": "2", "champion": "1", "previous": "2"}
    last = [entry for entry in registry.model.ledger() if entry["alias"] == "champion"][-1]
    assert (last["who"], last["why"], last["action"]) == ("Ann", "2 is too slow", "promote")


def test_approval_checks_again_whether_the_candidate_is_better(registry: Registry) -> None:
    with pytest.raises(MlcError, match=r"without a reason \(register\.approval is required\)"):
        promotion.promote(registry.paths, settings("required"), "2", "Ann")
    with pytest.raises(MlcError, match="say why"):
        promotion.approve(registry.paths, settings("required"), "2", "Ann", "")
    with pytest.raises(MlcError, match="version 3 of by-hand is not the candidate"):
        promotion.approve(registry.paths, settings("required"), registry.add(refused=8), "Ann", "good")
    # Somebody promotes one as good in the meantime.
    promotion.promote(registry.paths, settings(), registry.add(), "Ben")
    with pytest.raises(MlcError, match="does not replace the champion any more: no better than champion version 4"):
        promotion.approve(registry.paths, settings("required"), "2", "Ann", "good")
    assert registry.aliases()["champion"] == "4"


def test_approve_promotes_and_brings_the_record_up_to_date(registry: Registry) -> None:
    waiting = records.registration(model=NAME, version="2", waiting=True, reason="waiting for approval")
    write_json(registry.paths.registration, waiting)
    promotion.approve(registry.paths, settings("required"), "2", "Ann", "read fifty replies")
    assert registry.aliases() == {"candidate": "2", "champion": "2", "previous": "1"}
    record = json.loads(registry.paths.registration.read_text())
    assert (record["promoted"], record["waiting"], record["reason"]) == (True, False, None)
    assert (record["champion"], record["previous"]) == ("2", "1")
    assert record["ledger"][-2]["action"] == "approve" and record["ledger"][-2]["why"] == "read fifty replies"


def test_what_was_rejected_is_never_promoted(registry: Registry) -> None:
    promotion.reject(registry.paths, settings(), "2", "Ann", "rude")
    assert registry.aliases() == {"champion": "1"}
    for move in (promotion.promote, promotion.approve):
        with pytest.raises(MlcError, match=r"version 2 of by-hand was rejected by Ann on .*: rude"):
            move(registry.paths, settings(), "2", "Ben", "I want it")
    entries = registry.model.ledger()
    promotion.reject(registry.paths, settings(), "2", "Ann", "rude")
    assert registry.model.ledger() == entries
    with pytest.raises(MlcError, match="version 1 of by-hand is champion"):
        promotion.reject(registry.paths, settings(), "1", "Ann", "rude")


def test_the_commands_print_and_exit(registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("mlc.cli.registry.project", lambda: (settings(), registry.paths))

    def run(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(cli.app, ["registry", *arguments])
        assert result.exit_code == code, result.output
        return result.stdout

    rows = run("list").splitlines()
    assert [row.split()[1] for row in rows[:2]] == ["1", "2"] and rows[0].endswith("champion")
    assert len(rows) == 2 + len(registry.model.ledger())
    assert json.loads(run("list", "--json"))["versions"][1]["aliases"] == ["candidate"]
    assert json.loads(run("show", "candidate", "--json"))["version"] == "2"
    assert "passed 2 rules" in run("show", "1")
    assert "parameters.train.seed" in run("lineage", "2")
    exported = tmp_path / "ledger.jsonl"
    run("ledger", "--export", str(exported))
    assert run("verify", "all").splitlines() == ["version 1: OK", "version 2: OK", "ledger: OK"]
    moved = json.loads(run("promote", "2", "--why", "better", "--json"))
    assert moved["aliases"] == {"candidate": "2", "champion": "2", "previous": "1"}
    run("ledger", "--against", str(exported))
    weights(registry)
    assert not json.loads(run("verify", "--json", code=7))["ok"]
    assert "champion is" not in run("verify", "1")
    run("rollback", "--why", "broken files")
    assert registry.aliases()["champion"] == "1"
    registry.rewrite(0, who="Mallory")
    assert "ledger: what entry 2" in run("verify", code=7).replace("ledger: ledger:", "ledger:")
