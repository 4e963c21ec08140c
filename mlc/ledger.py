"""A registered model's aliases, and the ledger of their moves.

MLflow keeps no history of aliases, so every move of ``candidate``, ``champion`` and ``previous`` is also an entry in
the ledger: a registered-model tag of its own, which nothing here overwrites or deletes.
"""

from __future__ import annotations

import getpass
import json
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlc import tracking
from mlc.errors import MlcError
from mlc.paths import Paths

LEDGER = "ledger."  # then the time in UTC, which sorts, and is never used twice
Entry = dict[str, Any]


def who() -> str:
    """Whose move it is, for the ledger: git's user.name, or the login name."""
    try:
        name = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True).stdout.strip()
        return name or getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


class Model:
    """One registered model: its aliases, ledger and versions."""

    def __init__(self, paths: Paths, name: str) -> None:
        self.client: MlflowClient = tracking.client(paths)
        self.uri = tracking.uri(paths)
        self.name = name

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
        found = self.client.search_model_versions(f"name='{self.name}'", max_results=10_000)
        return sorted(found, key=lambda v: int(v.version))

    def aliases(self) -> dict[str, str]:
        """Alias -> the version it points at."""
        registered = self._registered()
        return {alias: str(version) for alias, version in registered.aliases.items()} if registered else {}

    def alias(self, alias: str) -> str | None:
        return self.aliases().get(alias)

    def ledger(self) -> list[Entry]:
        """Every alias move, oldest first."""
        registered = self._registered()
        tags = sorted(registered.tags.items()) if registered else []
        return [json.loads(value) for key, value in tags if key.startswith(LEDGER)]

    def move(self, action: str, alias: str, to: str | None) -> None:
        """Points an alias at a version, or removes it. The entry comes first: there is no move without one."""
        before = self.alias(alias)
        if before == to:
            return
        now = datetime.now(UTC)
        verdict = self.client.get_model_version(self.name, to).tags.get("verdict") if to else None
        entry: Entry = {
            "who": who(),
            "when": now.isoformat(timespec="seconds"),
            "action": action,
            "alias": alias,
            "from": before,
            "to": to,
            "verdict": verdict,
        }
        self.client.set_registered_model_tag(self.name, f"{LEDGER}{now:%Y%m%dT%H%M%S.%fZ}", json.dumps(entry))
        if to is None:
            self.client.delete_registered_model_alias(self.name, alias)
        else:
            self.client.set_registered_model_alias(self.name, alias, to)

    def make_champion(self, action: str, version: str) -> None:
        """Moves champion, then previous to the champion before it. Run again, it completes what was interrupted."""
        self.move(action, "champion", version)
        reigns = champions(self.ledger())
        before = reigns[:-1] if reigns[-1:] == [version] else reigns
        self.move(action, "previous", before[-1] if before else None)


def champions(ledger: Iterable[Entry]) -> list[str]:
    """The champions that led to the present one, which is last; a rollback takes off those it undid."""
    reigns: list[str] = []
    for entry in ledger:
        if entry["alias"] != "champion":
            continue
        if entry["from"] is not None and reigns[-1:] != [entry["from"]]:
            if reigns[-1:] == [entry["to"]]:
                continue  # the same move again: the first time was interrupted after its entry
            reigns.append(entry["from"])  # somebody moved the alias without this program
        if entry["action"] == "rollback" and entry["to"] in reigns:
            while reigns[-1] != entry["to"]:
                reigns.pop()
        elif reigns[-1:] != [entry["to"]]:
            reigns.append(entry["to"])
    return reigns


def rollback(paths: Paths, name: str) -> None:
    """Makes the previous champion champion again.

    Raises:
        MlcError: there is no previous champion.
    """
    model = Model(paths, name)
    champion, previous = model.alias("champion"), model.alias("previous")
    if champion and champion != previous:
        model.make_champion("promote", champion)  # completes a promotion that was interrupted before ``previous``
        previous = model.alias("previous")
    if previous is None:
        raise MlcError(f"{name} has no previous champion to go back to: `mlc registry list` shows what there is")
    # If both were the same, a rollback was interrupted between the two: this completes it and goes back no further.
    model.make_champion("rollback", previous)
    print(f"registry: version {previous} of {name} is champion")


def show(paths: Paths, name: str) -> None:
    """Prints the versions with their aliases and origin, and the ledger."""
    model = Model(paths, name)
    versions, aliases = model.versions(), model.aliases()
    if not versions:
        print(f"{name} has no versions yet: `mlc register` makes them")
    for version in versions:
        commit, data = (version.tags.get(tag, "unknown")[:12] for tag in ("git_commit", "data"))
        origin = f"commit {commit}, data {data}"
        held = ", ".join(alias for alias, holder in sorted(aliases.items()) if holder == str(version.version))
        print(f"version {version.version:>3}  {origin}  {held}".rstrip())
    for entry in model.ledger():
        move = f"{entry['alias']}: {entry['from'] or '-'} -> {entry['to'] or '-'}"
        print(f"{entry['when']}  {entry['action']:<8}  {move}  by {entry['who']}")
