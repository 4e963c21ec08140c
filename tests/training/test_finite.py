"""A loss, gradient or weight that is not a finite number ends the training, and nothing of it is saved."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mlc.errors import MlcError
from mlc.paths import Paths
from mlc.prompts.schema import PromptRow, write_prompts
from mlc.training import candidates, stage
from mlc.training.build import build_trainer

from .test_lengths import LANGUAGES, PARADIGMS, SETTINGS, train


@pytest.fixture
def paths(tmp_path: Path, tiny_base: Path) -> Paths:
    paths = Paths(tmp_path)
    shutil.copytree(tiny_base, paths.base)
    return paths


def spoil(trainer: Any, at: int, what: str) -> None:
    """The loss, or what comes back from it, is not a number from step ``at`` on."""
    parent = trainer.compute_loss

    def compute_loss(*arguments: Any, **named: Any) -> Any:
        loss = parent(*arguments, **named)
        if trainer.state.global_step >= at:
            if what == "loss":
                return loss * float("nan")
            loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss

    trainer.compute_loss = compute_loss


@pytest.mark.parametrize("weight", [0.0, 8.0], ids=["parent", "objective"])
@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_a_loss_that_is_not_finite_ends_the_training_with_its_rows(
    paradigm: str, weight: float, paths: Paths, alignment_rows: list[PromptRow]
) -> None:
    settings = train(paradigm, {"weight": weight}, max_steps=4, save_steps=1)
    trainer, _ = build_trainer(alignment_rows, LANGUAGES, settings, paths)
    spoil(trainer, 2, "loss")
    with pytest.raises(MlcError, match="step 3: the loss is not a finite number") as error:
        trainer.train()
    named = str(error.value).split("Rows of the batch: ")[1].split(". ")[0].split(", ")
    assert 1 <= len(named) <= 4 and set(named) <= {row.id for row in alignment_rows}
    assert "learning_rate" in str(error.value)
    assert {folder.name for folder in paths.checkpoints.glob("checkpoint-*")} == {"checkpoint-1", "checkpoint-2"}
    assert all(torch.isfinite(parameter).all() for parameter in trainer.model.parameters())


def test_a_gradient_that_is_not_finite_does_not_reach_the_weights(
    paths: Paths, alignment_rows: list[PromptRow]
) -> None:
    trainer, tokenizer = build_trainer(alignment_rows, LANGUAGES, train(gradient_accumulation_steps=2), paths)
    spoil(trainer, 1, "gradient")
    with pytest.raises(MlcError, match="step 2: the gradient is not a finite number"):
        trainer.train()
    assert all(torch.isfinite(parameter).all() for parameter in trainer.model.parameters())
    with torch.no_grad():
        next(trainer.model.parameters()).view(-1)[0] = float("inf")
    with pytest.raises(MlcError, match="a weight is not a finite number"):
        candidates.save(trainer, paths.candidate(1), tokenizer)
    with pytest.raises(MlcError, match="a weight is not a finite number"):
        trainer._save_checkpoint(trainer.model, None)
    assert not paths.candidates.exists() and not list(paths.checkpoints.glob("checkpoint-*"))


def test_a_learning_rate_that_is_far_too_high_is_an_error_of_the_settings(
    paths: Paths, alignment_rows: list[PromptRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    write_prompts(paths.prompts / "alignment.jsonl", alignment_rows)
    with pytest.raises(MlcError, match=r"not a finite number.*Lower train\.learning_rate"):
        stage.run(LANGUAGES, SETTINGS.base, train(learning_rate=1e37, warmup_ratio=0.0, max_steps=6), paths)
    assert not paths.candidates.exists()
