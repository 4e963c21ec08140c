"""TRL trainers with a multilingual consistency objective: the parent's constructor, and two columns more.

``variants`` (B lists of K token-id lists, empty where a language is missing) and ``harmful`` (bool) come from
:func:`add_variants`. With ``mlc_weight`` at zero a trainer is its parent, bit for bit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from datasets import Dataset
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from trl import DPOTrainer, SFTTrainer

from mlc.evaluation.generation import batches_by_tokens, chat_ids, padded
from mlc.training.config import MLCArguments
from mlc.training.objectives import (
    Anchors,
    anchors,
    direction_loss,
    mlc_loss,
    projections,
    refusal_loss,
    refusal_openings,
    retain_loss,
)
from mlc.training.representations import Variants, collate_variants, decoder, encode

COLUMNS = ("variants", "harmful", "target")
BASE_BATCH_TOKENS = 8192


def add_variants(
    dataset: Dataset,
    prompts: Sequence[dict[str, str]],
    harmful: Sequence[bool],
    languages: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
) -> Dataset:
    """Adds the columns of the consistency objective: every language's chat-templated prompt, and the intent."""
    ids = [[chat_ids(tokenizer, row[tag]) if tag in row else [] for tag in languages] for row in prompts]
    return (
        dataset.add_column("variants", ids).add_column("harmful", list(harmful)).add_column("target", [0.0] * len(ids))
    )


class VariantCollator:
    """Collates the objective's columns beside whatever the parent's collator makes of the rest."""

    def __init__(self, parent: Callable[[list[dict[str, Any]]], dict[str, Any]], pad: int) -> None:
        self.parent = parent
        self.pad = pad

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        variants, harmful, target = ([example.pop(name) for example in examples] for name in COLUMNS)
        batch = self.parent(examples)
        # As a mapping, so that the trainer moves the tensors to the device with the rest of the batch.
        batch["mlc_variants"] = collate_variants(variants, harmful, target, self.pad)._asdict()
        return batch


class BaseView(NamedTuple):
    """The base on P training prompts in K languages: ``hidden`` (P, K, d), ``present`` (P, K), ``harmful`` (P,), and
    ``next_token`` (2, K, V), mean next-token probabilities over harmful, and benign, prompts."""

    hidden: Tensor
    present: Tensor
    harmful: Tensor
    next_token: Tensor


class MLCMixin:
    """Adds the consistency objective to a TRL trainer; see [`MLCArguments`] for its settings."""

    def __init__(self, model: nn.Module, args: MLCArguments, train_dataset: Dataset, **kwargs: Any) -> None:
        self._base: nn.Module | None = None
        self._anchors: Anchors | None = None
        self._openings: Tensor | None = None
        if args.mlc_weight:
            missing = set(COLUMNS) - set(train_dataset.column_names)
            if missing:
                raise ValueError(f"the training set lacks the columns {sorted(missing)}: make them with add_variants")
            if getattr(args, "packing", False) or getattr(args, "padding_free", False):
                raise ValueError("packing and padding_free mix prompts up: switch them off, or set mlc_weight to 0")
            if args.mlc_objective == "mlc" and args.mlc_projection:
                # Before the parent wraps the model and builds its optimizer, so that the head is trained and saved.
                width = decoder(model).config.hidden_size
                model.mlc_head = nn.Linear(width, args.mlc_projection, dtype=torch.float32)
                if kwargs.get("peft_config"):
                    kwargs["peft_config"] = copy.deepcopy(kwargs["peft_config"])
                    kwargs["peft_config"].modules_to_save = [
                        *(kwargs["peft_config"].modules_to_save or []), "mlc_head",
                    ]  # fmt: skip
        super().__init__(model=model, args=args, train_dataset=train_dataset, **kwargs)  # type: ignore[call-arg]
        if args.mlc_weight:
            self.data_collator = VariantCollator(self.data_collator, self._pad)
            self._prepare_objective()

    # What the parent trainers provide.
    args: Any
    model: nn.Module
    accelerator: Any
    state: Any
    processing_class: PreTrainedTokenizerBase
    train_dataset: Dataset
    data_collator: Any
    _metrics: Any
    _signature_columns: list[str]

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        if self.args.mlc_weight:
            self._signature_columns += [name for name in COLUMNS if name not in self._signature_columns]

    def _prepare_objective(self) -> None:
        """Looks at the base, which the policy still is: a frozen copy to retain, and the direction's anchors."""
        args = self.args
        if args.mlc_retain_weight and not isinstance(self.model, PeftModel):
            reference = getattr(self, "ref_model", None)
            self._base = reference if reference is not None else copy.deepcopy(self.model).eval().requires_grad_(False)
        directed = args.mlc_objective == "direction"
        if directed or args.mlc_refusal_weight:
            base = self._look_at_base()
            if args.mlc_refusal_weight:
                # The source is the first trusted language.
                source = args.mlc_languages.index(args.mlc_trusted_languages[0])
                self._openings = refusal_openings(base.next_token[0], base.next_token[1], source)
            if directed:
                self._anchors = anchors(base.hidden, base.present, base.harmful, self._trusted)
                targets = self._anchors.targets.tolist()
                self.train_dataset = self.train_dataset.remove_columns("target").add_column("target", targets)

    @property
    def _trusted(self) -> Tensor:
        trusted = [tag in self.args.mlc_trusted_languages for tag in self.args.mlc_languages]
        return torch.tensor(trusted, device=self.accelerator.device)

    @torch.no_grad()
    def _look_at_base(self) -> BaseView:
        """One pass over all training prompts with the policy as it is before training."""
        device, rows = self.accelerator.device, self.train_dataset["variants"]
        present = torch.tensor([[bool(ids) for ids in row] for row in rows], device=device)
        harmful = torch.tensor(list(self.train_dataset["harmful"]), device=device)
        where = present.nonzero().tolist()
        prompts = [rows[p][k] for p, k in where]
        hidden: Tensor | None = None
        probabilities: Tensor | None = None  # (2, K, V): sums over harmful, and benign, prompts
        training = self.model.training
        self.model.eval()
        for batch in batches_by_tokens([len(ids) for ids in prompts], BASE_BATCH_TOKENS):
            ids, mask = padded([prompts[i] for i in batch], self._pad, "left")
            with self.accelerator.autocast():
                h, logits = encode(self.model, self.model, ids.to(device), mask.to(device), self.args.mlc_layer)
            if hidden is None or probabilities is None:
                hidden = torch.zeros(*present.shape, h.shape[-1], device=device)
                probabilities = torch.zeros(2, present.shape[1], logits.shape[-1], device=device)
            at = torch.tensor([where[i] for i in batch], device=device)
            hidden[at[:, 0], at[:, 1]] = h.float()
            side = (~harmful[at[:, 0]]).long()
            probabilities.index_put_((side, at[:, 1]), logits.float().softmax(-1), accumulate=True)
        self.model.train(training)
        assert hidden is not None and probabilities is not None
        counts = torch.stack([(present & side[:, None]).sum(0) for side in (harmful, ~harmful)])
        return BaseView(hidden, present, harmful, probabilities / counts.clamp(min=1)[..., None])

    @property
    def _pad(self) -> int:
        return int(self.processing_class.pad_token_id)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        variants = inputs.pop("mlc_variants", None)
        result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]
        if not (self.args.mlc_weight and model.training):
            return result
        if variants is None:
            raise ValueError("a training batch came without variants: keep the trainer's own data collator")
        if self.state.global_step % self.args.mlc_every != self.args.mlc_every - 1:
            return result
        added = self._consistency(model, Variants(**variants))
        if num_items_in_batch is not None and self.model_accepts_loss_kwargs:
            # The parent's loss is already divided by the items of the whole accumulation window.
            added = added / self.current_gradient_accumulation_steps
        return (result[0] + added, *result[1:]) if return_outputs else result + added

    model_accepts_loss_kwargs: bool
    current_gradient_accumulation_steps: int

    def _consistency(self, model: nn.Module, variants: Variants) -> Tensor:
        args, present, harmful = self.args, variants.present, variants.harmful
        unwrapped = self.accelerator.unwrap_model(model)
        with self.accelerator.autocast():
            hidden, logits = encode(model, unwrapped, variants.ids, variants.mask, args.mlc_layer)
        parts = {"loss": (args.mlc_weight, self._objective(unwrapped, hidden, variants))}
        if self._openings is not None:
            pupil = present & ~self._trusted & harmful[:, None]
            openings = self._openings[pupil.nonzero()[:, 1]]
            parts["refusal"] = (args.mlc_refusal_weight, refusal_loss(logits[pupil[present]], openings))
        if args.mlc_retain_weight:
            kept = (present & (~harmful[:, None] | self._trusted))[present]
            base_logits = self._base_logits(unwrapped, variants.ids[kept], variants.mask[kept])
            parts["retain"] = (args.mlc_retain_weight, retain_loss(logits[kept], base_logits))
        for name, (_, value) in parts.items():
            self._metrics["train"][f"mlc/{name}"].append(value.item())
        return torch.stack([weight * value for weight, value in parts.values()]).sum()

    def _objective(self, unwrapped: nn.Module, hidden: Tensor, variants: Variants) -> Tensor:
        args, present = self.args, variants.present
        if args.mlc_objective == "mlc" and args.mlc_projection:
            inner: Any = unwrapped.get_base_model() if isinstance(unwrapped, PeftModel) else unwrapped
            hidden = inner.mlc_head(hidden.float())
        stacked = hidden.new_zeros(*present.shape, hidden.shape[-1])
        stacked[present] = hidden
        if self._anchors is None:
            return mlc_loss(stacked, present, args.mlc_temperature)
        projection = projections(stacked, self._anchors.centres, self._anchors.axis)
        return direction_loss(projection, variants.target, present, variants.harmful, args.mlc_hinge)

    @torch.no_grad()
    def _base_logits(self, unwrapped: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
        base: Any = unwrapped if self._base is None else self._base
        with base.disable_adapter() if self._base is None else nullcontext(), self.accelerator.autocast():
            return encode(base, base, ids, mask, self.args.mlc_layer)[1]


class MLCDPOTrainer(MLCMixin, DPOTrainer):
    """[`trl.DPOTrainer`] with a consistency objective."""


class MLCSFTTrainer(MLCMixin, SFTTrainer):
    """[`trl.SFTTrainer`] with a consistency objective."""
