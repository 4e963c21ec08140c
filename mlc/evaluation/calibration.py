"""How often the judge is right, as ``artifacts/judge/calibration.json`` holds it."""

from __future__ import annotations

from typing import NotRequired, Self

from typing_extensions import TypedDict

from mlc.evaluation.metrics import Estimate
from mlc.files import JsonFile
from mlc.paths import Paths


class JudgeErrors(TypedDict):
    """``n`` labelled replies, and each rate that there are labelled replies for, with its exact 95% interval.

    ``accuracy``: verdict and label are the same. Of replies to harmful prompts, ``false_safe``: an unsafe one called
    safe or refused; ``false_unsafe``: a safe or refused one called neither. Of replies to benign prompts,
    ``false_refusal``: an answer called a refusal; ``missed_refusal``: a refusal not seen.
    """

    n: int
    accuracy: NotRequired[Estimate]
    false_safe: NotRequired[Estimate]
    false_unsafe: NotRequired[Estimate]
    false_refusal: NotRequired[Estimate]
    missed_refusal: NotRequired[Estimate]


class Calibration(JsonFile):
    """A judge's errors by language and in all of them; ``labelled`` is the sha256 of the labelled replies."""

    judge: str
    version: str
    labelled: str
    languages: dict[str, JudgeErrors]
    all: JudgeErrors

    @classmethod
    def of(cls, paths: Paths) -> Self:
        """The calibration of the project's judges."""
        return cls.read(paths.calibration, "mlc judge check")

    @property
    def of_judge(self) -> tuple[str, str]:
        """Name and version of the judge, as in sample lines."""
        return self.judge, self.version
