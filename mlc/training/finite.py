"""A training ends at the first loss or gradient that is not a finite number, before it gets into the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from accelerate.utils import gather_object

from mlc.errors import MlcError

TO_DO = (
    "Lower train.learning_rate; if that does not help, set train.precision to float32, or look at these rows. The last"
    " checkpoint is kept"
)


class FiniteMixin:
    """Checks each optimizer step of a ``transformers.Trainer`` once, after the backward pass and before the step.

    All processes come to the check, with the same gradient norm. transformers waits for the loss in each step anyway
    (``logging_nan_inf_filter``), so that reading it here costs nothing more.
    """

    # What the trainer provides.
    accelerator: Any
    model: Any
    state: Any
    train_dataset: Any

    _window: list[tuple[list[int], torch.Tensor]]

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
        """The parent's, with the batch's rows and loss remembered until the optimizer's step."""
        row = inputs.pop("mlc_row", None)
        loss = super().training_step(model, inputs, *rest, **named)  # type: ignore[misc]
        self.__dict__.setdefault("_window", []).append((row, loss.detach()))
        return loss

    def _get_grad_norm(self, *arguments: Any, **named: Any) -> Any:
        norm = super()._get_grad_norm(*arguments, **named)  # type: ignore[misc]
        window, self._window = self.__dict__.get("_window", []), []
        losses = [(row, bool(torch.isfinite(loss).all())) for row, loss in window]
        loss_is_finite = self._everywhere(all(finite for _, finite in losses))
        gradient_is_finite = norm is None or math.isfinite(float(norm))
        if loss_is_finite and gradient_is_finite:
            return norm
        culprits = [row for row, finite in losses if not finite] if not loss_is_finite else [row for row, _ in losses]
        rows = gather_object([i for row in culprits if row is not None for i in row.tolist()])
        raise MlcError(
            f"train: step {self.state.global_step + 1}: the {'gradient' if loss_is_finite else 'loss'} is not a finite"
            f" number. Rows of the batch: {', '.join(self._named(rows))}. {TO_DO}"
        )

    def _named(self, rows: list[int]) -> list[str]:
        ids = self.train_dataset["id"] if "id" in self.train_dataset.column_names else None
        return list(dict.fromkeys(str(ids[row]) if ids is not None else f"number {row}" for row in rows))

    def _everywhere(self, fine: bool) -> bool:
        if self.accelerator.num_processes == 1:
            return fine
        flag = torch.tensor(float(fine), device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum").item() == self.accelerator.num_processes)

    def check_weights(self) -> None:
        """All processes call it before weights are saved.

        Raises:
            MlcError: a trained weight is not a finite number.
        """
        trained = [p for p in self.model.parameters() if p.requires_grad]
        local = [p.to_local() if hasattr(p, "to_local") else p for p in trained]
        if not self._everywhere(all(bool(torch.isfinite(p).all()) for p in local)):
            raise MlcError(
                f"train: step {self.state.global_step}: a weight is not a finite number. Nothing was saved. {TO_DO}"
            )

    def _save_checkpoint(self, *arguments: Any, **named: Any) -> None:
        self.check_weights()
        super()._save_checkpoint(*arguments, **named)  # type: ignore[misc]
