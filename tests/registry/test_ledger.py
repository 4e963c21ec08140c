"""The ledger and the aliases agree, whatever interrupts their moves, and a changed ledger is found."""

from __future__ import annotations

import itertools
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from versions import NAME, Registry, settings

from mlc.errors import MlcError
from mlc.registry import promotion
from mlc.registry.ledger import Entry, begins_with, broken, champions, ends, rejection_reason, who
from mlc.registry.model import RegisteredModel


@pytest.fixture
def registry(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Registry(tmp_path, store)


class Interrupted(BaseException):
    """As a kill: no ``except Exception`` sees it."""


@contextmanager
def interrupted_after(calls: int, which: tuple[str, ...]) -> Iterator[None]:
    """Ends the block instead of a call of MlflowClient's ``which``, after so many of them."""
    called: list[str] = []

    def counted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if len(called) == calls:
                raise Interrupted
            called.append(name)
            return original(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in vars(MlflowClient):
            if "model" in name and name.startswith(which):
                patch.setattr(MlflowClient, name, counted(name, getattr(MlflowClient, name)))
        yield


def agree(registry: Registry) -> bool:
    aliases = {alias: version for alias, version in ends(registry.model.ledger()).items() if version}
    return aliases == registry.aliases() and not registry.model.faults()


def promote(registry: Registry) -> None:
    registry.promoted("3")


def approve(registry: Registry) -> None:
    promotion.approve(registry.paths, settings(), "3", "Ann", "good")


def rollback(registry: Registry) -> None:
    promotion.rollback(registry.paths, settings(), "Ann", "bad")


def reject(registry: Registry) -> None:
    promotion.reject(registry.paths, settings(), "3", "Ann", "bad")


WRITES = ("set_", "delete_")  # between two of them the registry stays as it is, so these are all the states of a kill


@pytest.mark.parametrize("which", [WRITES, pytest.param((*WRITES, "get_"), marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("move", "before", "after"),
    [
        (promote, {"champion": "2", "previous": "1"}, {"candidate": "3", "champion": "3", "previous": "2"}),
        (approve, {"champion": "2", "previous": "1"}, {"candidate": "3", "champion": "3", "previous": "2"}),
        (rollback, {"champion": "2", "previous": "1"}, {"candidate": "3", "champion": "1"}),
        (reject, {"champion": "2", "previous": "1"}, {"champion": "2", "previous": "1"}),
    ],
)
def test_a_move_interrupted_after_any_call_is_completed_by_running_it_again(
    tmp_path: Path,
    store: Path,
    move: Callable[[Registry], None],
    before: dict[str, str],
    after: dict[str, str],
    which: tuple[str, ...],
) -> None:
    """Never no champion, never another than the old or the new one; after the second run as if nothing had happened."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr("mlc.evaluation.statistics.RESAMPLES", 200)
        (tmp_path / "first").mkdir()
        registry = Registry(tmp_path / "first", store)
        for number in ("1", "2"):
            registry.add(refused=16 if number == "1" else 8)
            registry.promoted(number)
        registry.add()
        with registry.model.moving():
            registry.model.move("register", "candidate", "3")
        database = registry.root / "mlflow" / "mlflow.db"
        start = database.read_bytes()
        assert {alias: registry.aliases()[alias] for alias in before} == before
        for calls in itertools.count():
            # The same registry again: its tables as they were, under the connections that are open.
            _restore(registry, start)
            try:
                with interrupted_after(calls, which):
                    move(registry)
            except Interrupted:
                pass
            else:
                break
            assert registry.aliases()["champion"] in (before["champion"], after["champion"])
            # Rolling back again after a whole rollback would go back further.
            if move is not rollback or registry.aliases() != after:
                move(registry)
            assert registry.aliases() == after
            assert agree(registry)
            assert champions(registry.model.ledger())[-1] == after["champion"]
        assert calls >= 2


def _restore(registry: Registry, content: bytes) -> None:
    """Puts the registered model's tags and aliases back, by SQL: a copied file would be another store to MLflow."""
    file = registry.root / "before.db"
    file.write_bytes(content)
    with sqlite3.connect(registry.root / "mlflow" / "mlflow.db") as connection:
        connection.execute("attach ? as old", (str(file),))
        for table in ("registered_model_tags", "registered_model_aliases"):
            connection.execute(f"delete from main.{table}")
            connection.execute(f"insert into main.{table} select * from old.{table}")


def test_two_who_move_at_once_wait_for_each_other(registry: Registry) -> None:
    versions = [registry.add() for _ in range(2)]
    failed: list[BaseException] = []

    def moves(version: str) -> None:
        try:
            other = RegisteredModel(registry.paths, NAME)  # a lock of its own, as another process has
            for _ in range(3):
                with other.moving():
                    other.make_champion("promote", version)
                    assert other.alias("champion") == version
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=moves, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert agree(registry)
    assert not broken(registry.model.ledger())


def test_a_move_from_elsewhere_at_the_same_time_is_said(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = registry.add(), registry.add()
    original = MlflowClient.set_registered_model_alias

    def overtaken(client: MlflowClient, name: str, alias: str, version: str) -> None:
        original(client, name, alias, version)
        original(client, name, alias, two)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", overtaken)
    with registry.model.moving(), pytest.raises(MlcError, match="champion of by-hand was moved to version 2 from"):
        registry.model.make_champion("promote", one)
    monkeypatch.undo()
    assert registry.model.faults()
    with registry.model.moving():
        pass
    assert agree(registry)


def test_a_changed_or_missing_entry_is_found(registry: Registry, tmp_path: Path) -> None:
    for _ in range(3):
        registry.promoted(registry.add())
    exported = tmp_path / "ledger.jsonl"
    exported.write_text("".join(json.dumps(entry) + "\n" for entry in registry.model.ledger()))
    entries = registry.model.ledger()
    assert not broken(entries) and begins_with(entries, exported)
    for i in range(len(entries) - 1):
        assert broken(entries[:i] + entries[i + 1 :])
        assert broken([*entries[:i], entries[i] | {"who": "Mallory"}, *entries[i + 1 :]])
    # The chain does not see the end; an export does.
    assert not broken(entries[:-1]) and not begins_with(entries[:-1], exported)
    registry.rewrite(1, who="Mallory")
    assert registry.model.faults() and not begins_with(registry.model.ledger(), exported)


def test_the_time_may_jump(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.promoted(registry.add())
    before = registry.model.ledger()

    class Earlier(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime(2001, 1, 1, tzinfo=tz)

    monkeypatch.setattr("mlc.registry.model.datetime", Earlier)
    registry.promoted(registry.add())
    assert registry.model.ledger()[: len(before)] == before
    assert agree(registry)


def test_what_was_moved_without_mlc_is_written_down_and_left(registry: Registry) -> None:
    for _ in range(3):
        registry.promoted(registry.add())
    registry.model.client.set_registered_model_alias(NAME, "champion", "1")
    assert any("champion is version 1, and the ledger says version 3" in fault for fault in registry.model.faults())
    with registry.model.moving():
        pass
    assert registry.aliases() == {"candidate": "3", "champion": "1"}
    assert [entry["action"] for entry in registry.model.ledger()][-2:] == ["found", "complete"]
    assert agree(registry)


def test_an_entry_fits_a_database(registry: Registry) -> None:
    registry.add()
    with pytest.raises(MlcError, match="--why has 1001 characters"):
        registry.model.write("reject", None, "1", None, "Ann", "x" * 1001)


def test_who_is_the_servers_user_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    assert who(Path()) == "ann"
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    assert who(Path())


def moves(*steps: tuple[str, str | None, str]) -> list[Entry]:
    common = {"alias": "champion", "who": "Ann", "why": "", "when": "2026-01-01"}
    return [common | {"action": action, "from": old, "to": new} for action, old, new in steps]


@pytest.mark.parametrize(
    ("steps", "reigns"),
    [
        ([], []),
        ([("promote", None, "1"), ("promote", "1", "2"), ("promote", "2", "4")], ["1", "2", "4"]),
        ([("promote", None, "1"), ("promote", "1", "2"), ("rollback", "2", "1")], ["1"]),
        # Interrupted after the entry, found out, and run again.
        ([("promote", None, "1"), ("promote", "1", "2"), ("found", "2", "1"), ("promote", "1", "2")], ["1", "2"]),
        ([("promote", None, "1"), ("promote", "1", "2"), ("rollback", "2", "1"), ("found", "1", "2")], ["1", "2"]),
        # Moved by hand from 1 to 3.
        ([("promote", None, "1"), ("found", "1", "3"), ("promote", "3", "4")], ["1", "3", "4"]),
        # An older version that wins again.
        ([("promote", None, "1"), ("promote", "1", "2"), ("promote", "2", "1")], ["1", "2", "1"]),
    ],
)
def test_the_ledger_tells_who_reigned(steps: list[tuple[str, str | None, str]], reigns: list[str]) -> None:
    assert champions(moves(*steps)) == reigns


def test_a_rollback_counts_until_a_person_promotes_again() -> None:
    steps = [("promote", None, "1"), ("promote", "1", "2"), ("rollback", "2", "1")]
    assert (rejection_reason(moves(*steps), "2") or "").startswith("rolled back by Ann")
    assert rejection_reason(moves(*steps), "1") is None
    assert rejection_reason(moves(*steps, ("promote", "1", "2")), "2") is None
    rejected = [*moves(*steps), moves(("reject", "2", ""))[0] | {"alias": None, "to": None, "why": "rude"}]
    assert rejection_reason(rejected, "2") == "rejected by Ann on 2026-01-01: rude"
