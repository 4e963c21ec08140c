"""The ledger: who moved which alias of a registered model when, and why.

Each entry holds the sha256 of the one before it, so that an entry which was changed, or taken out from among others, is
found. Where the entries are kept, and who writes them, is in ``mlc.registry.model``.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterable
from pathlib import Path

from typing_extensions import TypedDict

from mlc.errors import MlcError
from mlc.files import sha256_json
from mlc.git import current_user

Entry = TypedDict(
    "Entry",
    {
        "who": str,
        "when": str,  # ISO 8601, UTC
        "action": str,
        "alias": str | None,  # null where something was said of the version ``from``
        "from": str | None,
        "to": str | None,
        "why": str,
        "verdict": str | None,  # sha256 of the verdict of the version ``to``
        "before": str | None,  # sha256 of the entry before
    },
)


def who(root: Path) -> str:
    """Whose move it is: the tracking server's user, git's user.name, or the login name."""
    try:
        return current_user(root) or getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def ends(ledger: Iterable[Entry]) -> dict[str, str | None]:
    """Where each alias is by the ledger."""
    return {entry["alias"]: entry["to"] for entry in ledger if entry["alias"]}


def broken(ledger: Iterable[Entry]) -> list[str]:
    """Where the chain breaks. An entry may follow any one before it: two machines may have written at once.

    What the chain cannot show is that the *last* entries are gone; the aliases, and an exported ledger, can.
    """
    seen: set[str | None] = {None}
    faults = []
    for number, entry in enumerate(ledger, 1):
        if entry.get("before") not in seen or (number > 1 and entry["before"] is None):
            faults.append(f"ledger: what entry {number} ({entry['when']}) follows was changed or taken out")
        seen.add(sha256_json(entry))
    return faults


def champions(ledger: Iterable[Entry]) -> list[str]:
    """The champions that led to the present one, which is last; a rollback takes off those it undid."""
    reigns: list[str] = []
    for entry in ledger:
        version = entry["to"]
        if entry["alias"] != "champion" or version is None or reigns[-1:] == [version]:
            continue
        # "found" is a move that did not happen, or that somebody made by hand: back to where it was, or on.
        if entry["action"] in ("rollback", "found") and version in reigns:
            while reigns[-1] != version:
                reigns.pop()
        else:
            reigns.append(version)
    return reigns


def rejection_reason(ledger: Iterable[Entry], version: str) -> str | None:
    """Why a version is not promoted by itself, if a person has said so: who rejected it or rolled it back, and when."""
    reason = None
    for entry in ledger:
        by = f"by {entry['who']} on {entry['when'][:10]}" + (f": {entry['why']}" if entry["why"] else "")
        if entry["action"] == "reject" and entry["from"] == version:
            return f"rejected {by}"
        if entry["alias"] == "champion" and entry["action"] == "rollback" and entry["from"] == version:
            reason = f"rolled back {by}"
        elif entry["alias"] == "champion" and entry["to"] == version:
            reason = None
    return reason


def described(entry: Entry) -> str:
    """An entry as a line."""
    what = f"{entry['alias']}: {entry['from'] or '-'} -> {entry['to'] or '-'}" if entry["alias"] else entry["from"]
    why = f": {entry['why']}" if entry["why"] else ""
    return f"{entry['when']}  {entry['action']:<8}  {what}  by {entry['who']}{why}"


def begins_with(ledger: list[Entry], exported: Path) -> bool:
    """Whether an exported ledger is the beginning of this one: nothing that it has seen was changed or taken out.

    Raises:
        MlcError: the file cannot be read.
    """
    try:
        before = [json.loads(line) for line in exported.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise MlcError(
            f"{exported} is no exported ledger ({error}): `mlc registry ledger --export` writes one"
        ) from None
    return ledger[: len(before)] == before
