"""What became of a candidate, as ``artifacts/registration.json`` holds it."""

from __future__ import annotations

from typing import Self

from mlc.files import JsonFile
from mlc.gates.rules import RuleResult
from mlc.paths import Paths
from mlc.registry.ledger import Entry
from mlc.registry.model import RegisteredModel


class Registration(JsonFile):
    """Whether the candidate was ``registered`` (as ``version``), is champion (``promoted``) or is ``waiting`` for
    approval, and the ``reason`` where it is not champion.

    ``failed`` are the gate's failed rules in words, ``comparison`` the results against the champion that there was.
    ``manifest`` is the sha256 of the candidate's, ``run_id`` its MLflow run. ``champion``, ``previous`` and ``ledger``
    are the registry's when this was written.
    """

    registered: bool
    promoted: bool
    waiting: bool = False
    reason: str | None
    failed: list[str]
    model: str
    version: str | None
    manifest: str
    run_id: str
    comparison: list[RuleResult]
    champion: str | None
    previous: str | None
    ledger: list[Entry]

    @classmethod
    def of(cls, paths: Paths) -> Self:
        """What became of the project's last candidate."""
        return cls.read(paths.registration, "mlc register")

    def as_now(self, model: RegisteredModel) -> Self:
        """The same with the registry's aliases and ledger as they are now."""
        aliases = model.aliases()
        champion = aliases.get("champion")
        return self.model_copy(
            update={
                "champion": champion,
                "previous": aliases.get("previous"),
                "ledger": model.ledger(),
                "promoted": self.version is not None and self.version == champion,
            }
        )


def outdated(paths: Paths, model: RegisteredModel) -> str | None:
    """What the registry says otherwise than the project's record, in words; None where it is as it was written down.

    Somebody may have deleted or renamed the model or a version, moved an alias, or set up another store.

    Raises:
        MlcError: the record is broken.
        IntegrityError: the ledger is.
    """
    record = Registration.of(paths)
    if record.model != model.name:
        return f"it is about {record.model}, and register.model_name is {model.name}"
    if record.version is not None:
        if not model.exists(record.version):
            return f"version {record.version} of {model.name} is not in the registry"
        if model.version(record.version).tags.get("manifest") != record.manifest:
            return f"version {record.version} of {model.name} is another model"
    now = record.as_now(model)
    for alias, then, since in (
        ("champion", record.champion, now.champion),
        ("previous", record.previous, now.previous),
    ):
        if then != since:
            return f"{alias} was {_version(then)}, and is {_version(since)}"
    if record.ledger != now.ledger:
        return f"the ledger of {model.name} has {len(now.ledger)} entries, not the {len(record.ledger)} of then"
    return None


def _version(number: str | None) -> str:
    return f"version {number}" if number else "nowhere"


def update(model: RegisteredModel, version: str, reason: str | None, paths: Paths) -> None:
    """Brings the record of the last registration, if it is there, up to what a person has decided since."""
    if not paths.registration.exists():
        return
    registration = Registration.of(paths)
    if registration.model != model.name:
        return
    if registration.version == version:
        registration = registration.model_copy(update={"waiting": False, "reason": reason})
    registration.as_now(model).write(paths.registration)
