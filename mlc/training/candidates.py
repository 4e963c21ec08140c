"""Candidates: the model as it is after some of the steps, each saved as a model of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import (
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from mlc.files import read_json, replacing, write_json
from mlc.models.weights import ADAPTER
from mlc.paths import candidate_name
from mlc.training.build import AnyTrainer


class CandidatesCallback(TrainerCallback):
    """Saves the model into ``folder`` on every ``every``-th step but the last, and before that step's checkpoint.

    So a training that goes on from a checkpoint finds the candidates up to it there, and makes the later ones again.
    """

    def __init__(self, trainer: AnyTrainer, folder: Path, tokenizer: PreTrainedTokenizerBase, every: int) -> None:
        self.trainer = trainer
        self.folder = folder
        self.tokenizer = tokenizer
        self.every = every

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002
        **_: Any,
    ) -> None:
        if state.global_step % self.every == 0 and state.global_step < state.max_steps:
            save(self.trainer, self.folder / candidate_name(state.global_step), self.tokenizer)


def save(trainer: AnyTrainer, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Saves weights or adapter, without the training's projection head, and the tokenizer; training can go on.

    All processes call it, as a split model's weights are gathered from all; the main one writes.

    Raises:
        MlcError: a weight is not a finite number.
    """
    trainer.check_weights()
    split = trainer.deepspeed if trainer.is_deepspeed_enabled else trainer.model
    weights = trainer.accelerator.get_state_dict(split)
    if not trainer.is_world_process_zero():
        return
    model: Any = trainer.accelerator.unwrap_model(trainer.model)
    with replacing(folder) as aside:
        with _without_head(model):
            model.save_pretrained(aside, state_dict={name: w for name, w in weights.items() if "mlc_head" not in name})
        if isinstance(model, PeftModel):
            # PEFT writes where the base lay; the manifest names it, and that path is nobody else's.
            written = read_json(aside / ADAPTER, "mlc train")
            write_json(aside / ADAPTER, written | {"base_model_name_or_path": None})
        tokenizer.save_pretrained(aside)
        (aside / "README.md").unlink(missing_ok=True)  # the trainer's model card names local paths


@contextmanager
def _without_head(model: Any) -> Iterator[None]:
    """The training's projection head is gone for a while, and is no part of what PEFT saves."""
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    head = getattr(inner, "mlc_head", None)
    if head is None:
        yield
        return
    del inner.mlc_head
    adapter = model.peft_config["default"] if isinstance(model, PeftModel) else None
    if adapter is not None:
        saved, adapter.modules_to_save = adapter.modules_to_save, None  # the head is the only one
    try:
        yield
    finally:
        inner.mlc_head = head
        if adapter is not None:
            adapter.modules_to_save = saved
