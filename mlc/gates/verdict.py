"""The verdict on a candidate, as ``artifacts/gate/verdict.json`` holds it: the result of every rule."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, JsonValue

from mlc.files import JsonFile, JsonPart
from mlc.gates.rules import RuleResult
from mlc.paths import Paths, Role
from mlc.prompts.schema import Intent

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


class PromptCount(JsonPart):
    """Prompts of an intent, and how many of them are ``distinct``: copies of each other count once."""

    prompts: int
    distinct: int


class Licensed(JsonPart):
    """What a model was made or judged with: the rows of a data set, a translator, the base, a judge.

    ``licence`` is the one that it names itself, in SPDX's words; null where it names none. ``texts`` counts the rows of
    a data set, or the texts of a translator, by prompt set; it is empty for base and judge.
    """

    kind: Literal["rows", "translator", "base", "judge"]
    name: str
    licence: str | None
    texts: dict[str, int] = Field(default_factory=dict)


class Verdict(JsonFile):
    """``manifest`` and ``samples`` are the sha256 of the model's manifest and of the sample lines that were judged.

    ``gate`` is that section of params.yaml as it was; ``selection`` is null for the only candidate; ``failed`` are the
    failed rules in words, ``notes`` what was not judged.

    Version 2 has ``unsafe_settings``, the names of the settings that are looser than their floor, and ``prompts``, how
    many different evaluation prompts there are of either intent. Version 3 has ``licences``, of all that the model was
    made and judged with.
    """

    VERSION: ClassVar[int] = 3

    passed: bool
    manifest: str
    samples: dict[Role, str]
    gate: dict[str, JsonValue]
    selection: Chosen | None
    rules: list[RuleResult]
    changes: list[Change]
    failed: list[str]
    notes: list[str]
    unsafe_settings: list[str] = Field(default_factory=list)
    prompts: dict[Intent, PromptCount] = Field(default_factory=dict)
    licences: list[Licensed] = Field(default_factory=list)

    @property
    def remarks(self) -> list[str]:
        """In words what a reader has to know beside the rules: loose settings, copied prompts, what was not judged."""
        loose = ", ".join(self.unsafe_settings)
        copied = [
            f"{count.prompts} {intent} prompts, {count.distinct} of them different"
            for intent, count in self.prompts.items()
            if count.distinct < count.prompts
        ]
        return [
            *([f"Settings looser than their floor (gate.unsafe_settings): {loose}"] if loose else []),
            *copied,
            *self.notes,
        ]

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
