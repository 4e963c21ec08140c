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

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlc import tracking
from mlc.errors import IntegrityError, MlcError
from mlc.files import locked, sha256_json
from mlc.paths import Paths
from mlc.registry.ledger import Entry, Identity, broken, champions, ends, parsed, rejection, who
from mlc.text import quoted_name

LEDGER = "ledger."  # then the entry's number, which sorts, and the time: two machines that write at once both stay
_KEY = re.compile(r"ledger\.([0-9]{6,12})\.[0-9]{8}T[0-9]{6}\.[0-9]{6}Z")
ALIASES = ("candidate", "champion", "previous")
WHY = 1000  # characters
ENTRY = 5000  # characters of an entry that MLflow's databases hold
LAST_NUMBER = 2**31 - 1  # of a version; its databases hold no larger one


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
        self._lock = paths.root / "mlflow" / f".{re.sub('[^A-Za-z0-9_-]', '_', name)}.lock"

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Holds the aliases against other processes of this folder, and brings them and the ledger together first.

        MLflow has no compare-and-set: what moves them at the same time from elsewhere is found, not kept away.
        """
        with locked(self._lock, f"registry: another mlc is moving aliases of {self.name}; waiting for it"):
            self._reconcile()
            yield

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
        versions: list[Any] = []
        page: str | None = ""
        while page is not None:
            found = self.client.search_model_versions(f"name='{self.name}'", max_results=1000, page_token=page or None)
            versions += [version for version in found if version.name == self.name]  # some databases ignore case
            page = found.token or None
        return sorted(versions, key=lambda v: int(v.version))

    def version(self, which: str) -> Any:
        """MLflow's model version of this number or alias.

        Raises:
            IntegrityError: the alias is on a version that was rejected: somebody put it there without mlc.
            MlcError: there is no such version.
        """
        number = which if which.isdecimal() else self.alias(which)
        if number is None:
            raise MlcError(f"{self.name} has no {which}: `mlc registry list` shows what there is")
        if number != which and (reason := rejection(self.ledger(), number)):
            raise IntegrityError(_on_rejected(which, number, reason))
        found = self._find(number)
        if found is None:
            raise MlcError(f"{self.name} has no version {number}: `mlc registry list` shows what there is")
        return found

    def _find(self, number: str) -> Any | None:
        """MLflow's model version of this number; None where there is none, or no longer."""
        if not 0 < int(number[:20]) <= LAST_NUMBER:
            return None
        try:
            return self.client.get_model_version(self.name, str(int(number)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def location(self, number: str) -> str:
        """Where the files of a version are; of one that was copied, where those of its original are, or were."""
        return str(self.client.get_model_version_download_uri(self.name, number))

    def exists(self, number: str) -> bool:
        """Whether there is such a version: MLflow's pages and clean-up jobs delete some that the ledger names."""
        return self._find(number) is not None

    def aliases(self) -> dict[str, str]:
        """Alias -> the version it points at."""
        registered = self._registered()
        return {alias: str(version) for alias, version in registered.aliases.items()} if registered else {}

    def alias(self, alias: str) -> str | None:
        return self.aliases().get(alias)

    def _read(self) -> tuple[dict[str, Entry], list[str]]:
        """The ledger's entries by their tags, oldest first, and what is wrong with tags that only look like some."""
        registered = self._registered()
        tags = registered.tags.items() if registered else ()
        entries: dict[str, Entry] = {}
        faults = []
        for key, value in sorted(tags, key=lambda tag: (_number(tag[0]), tag[0])):
            if not key.startswith(LEDGER):
                continue
            try:
                if not _KEY.fullmatch(key):
                    raise ValueError("no number and time in the tag's name")
                entries[key] = parsed(value)
            except ValueError as error:
                faults.append(f"the tag {quoted_name(key)} of {self.name} is no entry of the ledger: {error}")
        return entries, faults

    def _entries(self) -> dict[str, Entry]:
        entries, faults = self._read()
        if faults:
            raise IntegrityError(
                f"{faults[0]}. It was made or changed without mlc, and what the ledger said there is not known: put its"
                " value back (`mlc registry ledger --export` keeps them), or delete the tag in MLflow"
            )
        return entries

    def ledger(self) -> list[Entry]:
        """Every alias move and every rejection, oldest first.

        Raises:
            IntegrityError: something that looks like an entry is none.
        """
        return list(self._entries().values())

    def write(
        self,
        action: str,
        alias: str | None,
        old: str | None,
        new: str | None,
        by: str | None = None,
        why: str = "",
        of: Identity | None = None,
    ) -> None:
        """Adds an entry: ``alias`` goes from version ``old`` to ``new``; without an alias, something said of ``old``.

        ``of`` is what ``old`` is known by, where a person has turned it down.

        Raises:
            MlcError: ``why`` is too long or no text, or there is no version ``new``.
            IntegrityError: see ``ledger``.
        """
        if len(why) > WHY:
            raise MlcError(f"--why has {len(why)} characters, {WHY} at most: write the rest where it can be linked to")
        entries = self._entries()
        last = list(entries)[-1] if entries else None
        number = _number(last) + 1 if last else 1
        now = datetime.now(UTC)
        verdict = self.version(new).tags.get("verdict") if new else None
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
            **(of or {}),
        }
        key, value = f"{LEDGER}{number:06d}.{now:%Y%m%dT%H%M%S.%fZ}", json.dumps(entry, ensure_ascii=False)
        try:
            value.encode()
        except UnicodeEncodeError:
            raise MlcError("--why is not UTF-8 text: write it in the terminal's encoding") from None
        if len(value) > ENTRY:
            raise MlcError(f"the ledger's entry has {len(value)} characters, {ENTRY} at most: shorten --why")
        if not _KEY.fullmatch(key):
            raise IntegrityError(
                f"no entry can follow the tag {last} of {self.name}: delete it in MLflow if it was made by hand"
            )
        self.client.set_registered_model_tag(self.name, key, value)

    def move(
        self,
        action: str,
        alias: str,
        to: str | None,
        by: str | None = None,
        why: str = "",
        of: Identity | None = None,
    ) -> None:
        """Points an alias at a version, or removes it. The entry comes first: there is no move without one.

        Raises:
            MlcError: there is no such version, or somebody else moved the alias at the same time.
        """
        before = self.alias(alias)
        if before == to:
            return
        self.write(action, alias, before, to, by, why, of)
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

    def make_champion(
        self, action: str, version: str, by: str | None = None, why: str = "", of: Identity | None = None
    ) -> None:
        """Moves champion, then previous to the champion before it. Run again, it completes what was interrupted."""
        self.move(action, "champion", version, by, why, of)
        self.set_previous(action, by, why)

    def set_previous(self, action: str, by: str | None = None, why: str = "") -> None:
        """Moves ``previous`` to the champion before the present one that can be gone back to."""
        before = self._before(self.alias("champion"))
        if before != self.alias("previous"):
            self.move(action, "previous", before, by, why)

    def _before(self, champion: str | None) -> str | None:
        """The last champion before this one that there still is, and that nobody has rejected."""
        ledger = self.ledger()
        reigns = champions(ledger)
        before = reigns[:-1] if reigns[-1:] == [champion] else reigns
        for version in reversed(before):
            if version != champion and not rejection(ledger, version) and self.exists(version):
                return version
        return None

    def gone(self) -> list[str]:
        """The champions that led to the present one and that are no longer in MLflow, oldest first."""
        return [version for version in dict.fromkeys(champions(self.ledger())) if not self.exists(version)]

    def _reconcile(self) -> None:
        """Writes down where the aliases are, where the last entries say something else, and completes a promotion.

        A move that was interrupted after its entry did not happen; what MLflow's own pages or another program moved
        did. Neither is moved to what the entry says: somebody may have had reasons. Only ``previous`` follows from the
        champions there were; where it is the champion, a rollback was interrupted, which running it again completes.
        A version that was rejected keeps no alias, whoever gave it one.
        """
        recorded = ends(self.ledger())
        held = self.aliases()
        moved = [alias for alias in ALIASES if recorded.get(alias) != held.get(alias)]
        lost = {version: alias for alias in moved if (version := recorded.get(alias)) and not self.exists(version)}
        for version, alias in lost.items():
            print(
                f"registry: version {version} of {self.name}, which was {alias}, is not in MLflow any more: skipped",
                file=sys.stderr,
            )
        for alias in moved:
            self.write("found", alias, recorded.get(alias), held.get(alias))
        ledger = self.ledger()
        for alias in ALIASES:
            if (version := held.get(alias)) and (reason := rejection(ledger, version)):
                back = self._before(version) if alias == "champion" else None
                print(f"registry: {_on_rejected(alias, version, reason)}: now it is {_version(back)}", file=sys.stderr)
                self.move("repair", alias, back)
        held = self.aliases()
        if held and held.get("champion") != held.get("previous"):
            self.set_previous("complete")

    def faults(self) -> list[str]:
        """What is wrong with the ledger and the aliases: entries changed, missing or made by hand, aliases elsewhere
        than it says, or on a version that was rejected."""
        entries, unreadable = self._read()
        ledger = list(entries.values())
        faults = [*unreadable, *broken(ledger)]
        recorded, held = ends(ledger), self.aliases()
        for alias in ALIASES:
            before, now = recorded.get(alias), held.get(alias)
            if before != now:
                gone = "" if before is None or self.exists(before) else ", which is not in MLflow any more"
                faults.append(
                    f"{alias} is {_version(now)}, and the ledger says {_version(before)}{gone}: an interrupted move,"
                    " which the next one repairs, or one made without mlc"
                )
            if now and (reason := rejection(ledger, now)):
                faults.append(f"{_on_rejected(alias, now, reason)}: the next move of an alias repairs it")
        return faults


def _number(key: str) -> int:
    """The number of a ledger's entry in the name of its tag; a tag that is none comes first."""
    match = _KEY.fullmatch(key)
    return int(match[1]) if match else 0


def _on_rejected(alias: str, version: str, reason: str) -> str:
    return f"{alias} is version {version}, which was {reason}, and was put there without mlc"


def _version(number: str | None) -> str:
    return f"version {number}" if number else "nowhere"
