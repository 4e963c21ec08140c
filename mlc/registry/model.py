"""A registered model: its versions, its aliases, and the entries of the ledger about them.

MLflow keeps no history of aliases, so every move of ``candidate``, ``champion`` and ``previous`` is also an entry in
the ledger: a registered-model tag of its own, which nothing here overwrites or deletes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from filelock import FileLock, Timeout
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlc import tracking
from mlc.errors import MlcError
from mlc.files import sha256_json
from mlc.paths import Paths
from mlc.registry.ledger import Entry, broken, champions, ends, who

LEDGER = "ledger."  # then the entry's number, which sorts, and the time: two machines that write at once both stay
ALIASES = ("candidate", "champion", "previous")
WHY = 1000  # characters; MLflow's databases hold 5,000 of an entry


def names_version(name: str) -> bool:
    """Whether ``name`` is what a version is called: a number or an alias."""
    return name.isdecimal() or name in ALIASES


class RegisteredModel:
    """One registered model: its aliases, ledger and versions."""

    def __init__(self, paths: Paths, name: str) -> None:
        self.client: MlflowClient = tracking.client(paths)
        self.uri = tracking.uri(paths)
        self.name = name
        self._root = paths.root
        self._lock = FileLock(paths.root / "mlflow" / f".{re.sub('[^A-Za-z0-9_-]', '_', name)}.lock")

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Holds the aliases against other processes of this folder, and brings them and the ledger together first.

        MLflow has no compare-and-set: what moves them at the same time from elsewhere is found, not kept away.
        """
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            print(f"registry: another mlc is moving aliases of {self.name}; waiting for it", file=sys.stderr)
            self._lock.acquire()
        try:
            self._reconcile()
            yield
        finally:
            self._lock.release()

    def _registered(self) -> Any | None:
        """MLflow's registered model; None before the first version."""
        try:
            return self.client.get_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def create(self) -> None:
        try:
            self.client.create_registered_model(self.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def versions(self) -> list[Any]:
        """MLflow's model versions, oldest first; their aliases are not filled in."""
        versions = self.client.search_model_versions(f"name='{self.name}'", max_results=10_000)
        return sorted(versions, key=lambda v: int(v.version))

    def version(self, which: str) -> Any:
        """MLflow's model version of this number or alias.

        Raises:
            MlcError: there is none.
        """
        number = which if which.isdecimal() else self.alias(which)
        try:
            if number is None:
                raise MlcError(f"{self.name} has no {which}: `mlc registry list` shows what there is")
            return self.client.get_model_version(self.name, number)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise MlcError(f"{self.name} has no version {number}: `mlc registry list` shows what there is") from None

    def aliases(self) -> dict[str, str]:
        """Alias -> the version it points at."""
        registered = self._registered()
        return {alias: str(version) for alias, version in registered.aliases.items()} if registered else {}

    def alias(self, alias: str) -> str | None:
        return self.aliases().get(alias)

    def _entries(self) -> dict[str, Entry]:
        registered = self._registered()
        tags = sorted(registered.tags.items()) if registered else []
        return {key: json.loads(value) for key, value in tags if key.startswith(LEDGER)}

    def ledger(self) -> list[Entry]:
        """Every alias move and every rejection, oldest first."""
        return list(self._entries().values())

    def write(
        self, action: str, alias: str | None, old: str | None, new: str | None, by: str | None = None, why: str = ""
    ) -> None:
        """Adds an entry: ``alias`` goes from version ``old`` to ``new``; without an alias, something said of ``old``.

        Raises:
            MlcError: ``why`` is too long.
        """
        if len(why) > WHY:
            raise MlcError(f"--why has {len(why)} characters, {WHY} at most: write the rest where it can be linked to")
        entries = self._entries()
        last = list(entries)[-1] if entries else None
        number = int(last.split(".")[1]) + 1 if last else 1
        now = datetime.now(UTC)
        verdict = self.client.get_model_version(self.name, new).tags.get("verdict") if new else None
        entry: Entry = {
            "who": by or who(self._root),
            "when": now.isoformat(timespec="seconds"),
            "action": action,
            "alias": alias,
            "from": old,
            "to": new,
            "why": why,
            "verdict": verdict,
            "before": sha256_json(entries[last]) if last else None,
        }
        self.client.set_registered_model_tag(
            self.name, f"{LEDGER}{number:06d}.{now:%Y%m%dT%H%M%S.%fZ}", json.dumps(entry, ensure_ascii=False)
        )

    def move(self, action: str, alias: str, to: str | None, by: str | None = None, why: str = "") -> None:
        """Points an alias at a version, or removes it. The entry comes first: there is no move without one.

        Raises:
            MlcError: somebody else moved the alias at the same time.
        """
        before = self.alias(alias)
        if before == to:
            return
        self.write(action, alias, before, to, by, why)
        if to is None:
            self.client.delete_registered_model_alias(self.name, alias)
        else:
            self.client.set_registered_model_alias(self.name, alias, to)
        now = self.alias(alias)
        if now != to:
            raise MlcError(
                f"{alias} of {self.name} was moved to version {now} from elsewhere while this moved it to {to}:"
                " look at `mlc registry list`, then run the same command again"
            )

    def make_champion(self, action: str, version: str, by: str | None = None, why: str = "") -> None:
        """Moves champion, then previous to the champion before it. Run again, it completes what was interrupted."""
        self.move(action, "champion", version, by, why)
        self._set_previous(action, by, why)

    def _set_previous(self, action: str, by: str | None = None, why: str = "") -> None:
        reigns, champion = champions(self.ledger()), self.alias("champion")
        before = reigns[:-1] if reigns[-1:] == [champion] else reigns
        self.move(action, "previous", before[-1] if before else None, by, why)

    def _reconcile(self) -> None:
        """Writes down where the aliases are, where the last entries say something else, and completes a promotion.

        A move that was interrupted after its entry did not happen; what MLflow's own pages or another program moved
        did. Neither is moved to what the entry says: somebody may have had reasons. Only ``previous`` follows from the
        champions there were; where it is the champion, a rollback was interrupted, which running it again completes.
        """
        recorded = ends(self.ledger())
        held = self.aliases()
        for alias in ALIASES:
            if recorded.get(alias) != held.get(alias):
                self.write("found", alias, recorded.get(alias), held.get(alias))
        if held and held.get("champion") != held.get("previous"):
            self._set_previous("complete")

    def faults(self) -> list[str]:
        """What is wrong with the ledger: entries changed or missing, aliases elsewhere than it says."""
        faults = broken(self.ledger())
        recorded, held = ends(self.ledger()), self.aliases()
        for alias in ALIASES:
            if recorded.get(alias) != held.get(alias):
                faults.append(
                    f"{alias} is {_version(held.get(alias))}, and the ledger says {_version(recorded.get(alias))}: an"
                    " interrupted move, which the next one repairs, or one made without mlc"
                )
        return faults


def _version(number: str | None) -> str:
    return f"version {number}" if number else "nowhere"
