"""Which of several candidates was chosen and why, as ``artifacts/selection/metrics.json`` holds it."""

from __future__ import annotations

from typing import Self

from mlc.files import JsonFile, JsonPart
from mlc.paths import Paths


class CandidateScore(JsonPart):
    """A candidate on the tuning prompts, in the served languages.

    ``safe_rate_worst`` and its bound are of the language with the lowest, as the gate has them, null where it has
    none; ``over_refusal`` is the mean over languages; ``perplexity`` is of the reference replies, null without any.
    ``failed`` says which rules failed, and why.
    """

    step: int
    rules_failed: int
    safe_rate_worst: float | None
    safe_rate_worst_bound: float | None
    over_refusal: float | None
    perplexity: float | None
    failed: list[str]


class Selection(JsonFile):
    """The chosen step and why, the sha256 of its manifest and of the tuning prompts (null for the only candidate), and
    every candidate's score by the name of its folder."""

    step: int
    how: str
    manifest: str
    prompts: str | None
    candidates: dict[str, CandidateScore]

    @classmethod
    def of(cls, paths: Paths) -> Self:
        """What the select stage wrote."""
        return cls.read(paths.selection_record, "mlc select")
