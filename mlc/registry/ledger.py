"""The ledger: who moved which alias of a registered model when, and why.

Each entry holds the sha256 of the one before it, so that an entry which was changed, or taken out from among others, is
found. Where the entries are kept, and who writes them, is in ``mlc.registry.model``.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from mlc.errors import MlcError
from mlc.files import first_mistake, sha256_json
from mlc.git import current_user
from mlc.text import visible


def _time(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("has no time zone")
    return text


_Version = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,9}$")]
Entry = TypedDict(
    "Entry",
    {
        "who": str,
        "when": Annotated[str, AfterValidator(_time)],  # ISO 8601, UTC
        "action": str,
        # null where something was said of the version ``from``
        "alias": Annotated[str, Field(pattern=r"^(candidate|champion|previous)$")] | None,
        "from": _Version | None,
        "to": _Version | None,
        "why": str,
        "verdict": str | None,  # sha256 of the verdict of the version ``to``
        "before": str | None,  # sha256 of the entry before
        # Of the version ``from`` that was rejected or rolled back, so that it is known again under another number,
        # and when that version is deleted: the sha256 of its manifest, and one of all its weights.
        "manifest": NotRequired[str],
        "weights": NotRequired[str],
    },
)
with_config(ConfigDict(strict=True, extra="forbid"))(Entry)
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)


class Identity(TypedDict):
    """What a model is known by under any number: the sha256 of its manifest, and one of all its weights; as far as they
    are known."""

    manifest: NotRequired[str]
    weights: NotRequired[str]


def parsed(text: str) -> Entry:
    """An entry from what a tag holds. It may have been made by hand, so nothing about it is taken for granted.

    Raises:
        ValueError: it is no entry; says why.
    """
    try:
        content = json.loads(text)
        json.dumps(content, ensure_ascii=False).encode()  # half a surrogate pair could be neither printed nor written
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON ({visible(str(error))})") from None
    if not isinstance(content, dict):
        raise ValueError("no JSON object")
    try:
        return _ENTRY.validate_python(content)
    except ValidationError as error:
        raise ValueError(first_mistake(error).lstrip(",: ")) from None


def who(root: Path) -> str:
    """Whose move it is: the tracking server's user, git's user.name, or the login name."""
    try:
        name = current_user(root) or getpass.getuser()
    except (OSError, KeyError, UnicodeError):
        return "unknown"
    return name.encode("utf-8", "backslashreplace").decode()


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
        # "found" is a move that did not happen, or that somebody made by hand: back to where it was, or on. "repair"
        # takes such a move back.
        if entry["action"] in ("rollback", "found", "repair") and version in reigns:
            while reigns[-1] != version:
                reigns.pop()
        else:
            reigns.append(version)
    return reigns


def rejection_reason(ledger: Iterable[Entry], version: str) -> str | None:
    """Why a version is not promoted by itself, if a person has said so: who rejected it or rolled it back, and when.

    It can be printed: a name or reason that holds control characters has them escaped.
    """
    reason = None
    for entry in ledger:
        why = f": {visible(entry['why'])}" if entry["why"] else ""
        by = f"by {visible(entry['who'])} on {entry['when'][:10]}{why}"
        if entry["action"] == "reject" and entry["from"] == version:
            return f"rejected {by}"
        if entry["alias"] == "champion" and entry["action"] == "rollback" and entry["from"] == version:
            reason = f"rolled back {by}"
        elif entry["alias"] == "champion" and entry["to"] == version:
            reason = None
    return reason


def rejection(ledger: Iterable[Entry], version: str) -> str | None:
    """Who rejected a version, when and why; None where nobody did. Rolled back is not rejected."""
    reason = rejection_reason(ledger, version)
    return reason if reason and reason.startswith("rejected ") else None


def described(entry: Entry) -> str:
    """An entry as a line, with what acts on a terminal escaped."""
    what = f"{entry['alias']}: {entry['from'] or '-'} -> {entry['to'] or '-'}" if entry["alias"] else entry["from"]
    why = f": {visible(entry['why'])}" if entry["why"] else ""
    return f"{entry['when']}  {visible(entry['action']):<8}  {what}  by {visible(entry['who'])}{why}"


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
