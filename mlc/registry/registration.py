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
