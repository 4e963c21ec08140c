"""Where everything lies, relative to the folder that holds params.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from mlc.errors import MlcError

Role = Literal["base", "candidate"]
ROLES: tuple[Role, ...] = ("base", "candidate")


def candidate_name(step: int) -> str:
    """The folder of the candidate after a training step."""
    return f"step-{step}"


class ModelUnderTest(NamedTuple):
    """A model to be evaluated.

    ``name`` heads its lines on the screen. ``folder`` holds its weights, or its adapter over the ones in ``base``.
    ``role`` says which of an endpoint's two models it is. ``partial`` keeps what was done before a kill.
    """

    name: str
    role: Role
    folder: Path
    base: Path
    partial: Path


@dataclass(frozen=True)
class Paths:
    """The project's files. Stages read and write these and nothing else."""

    root: Path = Path()

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def data(self) -> Path:
        """Prompt sets as they came: ``alignment.jsonl``, ``tuning.jsonl``, ``evaluation.jsonl``."""
        return self.root / "data"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    @property
    def prompts(self) -> Path:
        """Clean prompts under the names of ``data``, with quarantine, quality metrics and Data Docs."""
        return self.artifacts / "prompts"

    @property
    def base(self) -> Path:
        return self.artifacts / "base"

    @property
    def trusted_languages(self) -> Path:
        """The languages in which the base is trusted, and what that rests on."""
        return self.artifacts / "trusted_languages" / "languages.json"

    @property
    def trusted_languages_samples(self) -> Path:
        """The base's replies that the measurement rests on."""
        return self.trusted_languages.with_name("samples.jsonl")

    @property
    def candidates(self) -> Path:
        """What training made: a folder ``step-N`` like ``model`` for each candidate, the last step's among them."""
        return self.artifacts / "candidates"

    def candidate(self, step: int) -> Path:
        return self.candidates / candidate_name(step)

    def candidate_steps(self) -> list[int]:
        """The steps of the candidates that training made, in their order.

        Raises:
            MlcError: there are none.
        """
        steps = sorted(int(folder.name.removeprefix("step-")) for folder in self.candidates.glob("step-*"))
        if not steps:
            raise MlcError(f"{self.candidates} holds no candidate: run `mlc train` first")
        return steps

    @property
    def model(self) -> Path:
        """The candidate that was chosen: adapter or weights, tokenizer, and ``manifest.json``."""
        return self.artifacts / "model"

    @property
    def training(self) -> Path:
        """Training's log, metrics, and the MLflow run it was tracked in."""
        return self.artifacts / "training"

    @property
    def checkpoints(self) -> Path:
        return self.artifacts / "checkpoints"

    @property
    def tuning(self) -> Path:
        """Sample lines on the tuning prompts, where there are several candidates: of each, and of the base."""
        return self.artifacts / "tuning"

    @property
    def selection(self) -> Path:
        """Which candidate was chosen and why: ``metrics.json``, and ``candidates.csv`` to plot."""
        return self.artifacts / "selection"

    @property
    def selection_record(self) -> Path:
        return self.selection / "metrics.json"

    def evaluation(self, role: Role) -> Path:
        """``samples.jsonl`` and ``metrics.json`` of the base or the candidate."""
        return self.artifacts / "evaluation" / role

    def samples(self, role: Role) -> Path:
        """The sample lines of the base or the candidate."""
        return self.evaluation(role) / "samples.jsonl"

    def partial(self, name: str) -> Path:
        """What the evaluation of a model has done so far. No output of a stage, so that DVC leaves it alone."""
        return self.artifacts / "partial" / name

    def weights(self, role: Role) -> Path:
        return self.base if role == "base" else self.model

    def under_test(self, role: Role) -> ModelUnderTest:
        return ModelUnderTest(role, role, self.weights(role), self.base, self.partial(role))

    @property
    def tasks(self) -> Path:
        """Task accuracy of base and candidate: ``metrics.json``, and every question's outcome, ``answers.jsonl``."""
        return self.artifacts / "tasks"

    @property
    def calibration(self) -> Path:
        """How often the judge was right on labelled replies, per language."""
        return self.artifacts / "judge" / "calibration.json"

    @property
    def diagnostics(self) -> Path:
        """``representations.json`` of base and candidate, and ``map.csv``."""
        return self.artifacts / "diagnostics"

    @property
    def verdict(self) -> Path:
        return self.artifacts / "gate" / "verdict.json"

    @property
    def registration(self) -> Path:
        return self.artifacts / "registration.json"

    def provenance(self, stage: str) -> Path:
        """What a stage ran with: its commit, code and settings, and the hashes of what it read and wrote."""
        return self.artifacts / "provenance" / f"{stage}.json"

    @property
    def audit(self) -> Path:
        """The champion as it was last audited: ``model``, ``evaluation`` and ``verdict.json``. No stage reads it."""
        return self.artifacts / "audit"

    @property
    def report(self) -> Path:
        return self.artifacts / "report"
