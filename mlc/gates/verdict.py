"""The verdict on a candidate, as ``artifacts/gate/verdict.json`` holds it: the result of every rule."""

from __future__ import annotations

from typing import Self

from pydantic import JsonValue

from mlc.files import JsonFile, JsonPart
from mlc.gates.rules import RuleResult
from mlc.paths import Paths, Role

MADE_BY = "mlc gate"
SURE = 0.05  # p, corrected over the languages, below which a change is more than chance


class Change(JsonPart):
    """What changed in a rate and language from base to candidate: the prompts that got better and worse, and whether
    that is more than chance (McNemar's exact test, ``p_holm`` corrected for all languages of the rate)."""

    rate: str
    language: str
    n: int
    better: int
    worse: int
    p: float
    p_holm: float

    @property
    def sure(self) -> bool:
        """Whether it is more than chance."""
        return self.p_holm < SURE


class Chosen(JsonPart):
    """Which of several candidates this is, and why."""

    step: int
    how: str


class Verdict(JsonFile):
    """``manifest`` and ``samples`` are the sha256 of the model's manifest and of the sample lines that were judged.

    ``gate`` is that section of params.yaml as it was; ``selection`` is null for the only candidate; ``failed`` are the
    failed rules in words, ``notes`` what was not judged.
    """

    passed: bool
    manifest: str
    samples: dict[Role, str]
    gate: dict[str, JsonValue]
    selection: Chosen | None
    rules: list[RuleResult]
    changes: list[Change]
    failed: list[str]
    notes: list[str]

    @property
    def confidence(self) -> float:
        """Of all bounds of a rule together."""
        confidence = self.gate["confidence"]
        assert isinstance(confidence, int | float)
        return float(confidence)

    @property
    def follows_from_rules(self) -> bool:
        """Whether it says of itself what its rules say: a file can be edited."""
        return self.passed == all(result.passed for result in self.rules)

    @property
    def languages(self) -> set[str]:
        """The languages that it has a rule about."""
        return {result.language for result in self.rules if result.language is not None}


class AuditVerdict(JsonFile):
    """The verdict on a version of a registered model at a time, and the ``action`` that followed, if any.

    ``identity`` stands for all that decides the verdict, ``manifest`` for the version; the others as in a ``Verdict``.
    """

    passed: bool
    model: str
    version: str
    when: str
    gate: dict[str, JsonValue]
    rules: list[RuleResult]
    failed: list[str]
    notes: list[str]
    identity: str
    manifest: str
    action: str | None

    @classmethod
    def of(cls, paths: Paths) -> Self:
        """The last audit of the project's champion."""
        return cls.read(paths.audit / "verdict.json", "mlc audit")


def outcome(results: list[RuleResult], failed: list[str]) -> str:
    """How a judgement ended, in words."""
    return f"{len(failed)} of {len(results)} rules failed" if failed else f"all {len(results)} rules passed"
