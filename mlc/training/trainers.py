"""TRL trainers with a multilingual consistency objective: the parent's constructor, and two columns more.

``variants`` is each prompt in every language, a mapping from language to text, or its token ids in the order of
``mlc_languages``; ``harmful`` (bool) is needed by what depends on intent. With ``mlc_weight`` at zero a trainer is its
parent, bit for bit.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from peft import PeftModel
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    TrainerCallback,
    set_seed,
)
from trl import DPOTrainer, KTOTrainer, SFTTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

from mlc.models.generation import batches_by_tokens, head_ids, padded
from mlc.models.inference import pad_token
from mlc.models.representations import Variants, collate_variants, decoder, encode, encode_chunks
from mlc.training.config import MLCArguments
from mlc.training.finite import FiniteMixin
from mlc.training.objectives import (
    Anchors,
    anchors,
    contrastive_loss,
    cosine_loss,
    direction_loss,
    mlc_loss,
    projections,
    refusal_loss,
    refusal_openings,
    relational_loss,
    retain_loss,
)

COLUMNS = ("variants", "harmful", "row")
BASE_BATCH_TOKENS = 8192
BASE_TOKENS = 1024


class VariantCollator:
    """Collates the objective's columns beside whatever the parent's collator makes of the rest."""

    def __init__(self, parent: Callable[[list[dict[str, Any]]], dict[str, Any]], pad: int, with_variants: bool) -> None:
        self.parent = parent
        self.pad = pad
        self.with_variants = with_variants

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        own = [{name: example.pop(name) for name in COLUMNS if name in example} for example in examples]
        batch = self.parent(examples)
        if all("row" in columns for columns in own):  # evaluation rows have none, and need none
            batch["mlc_row"] = torch.tensor([columns["row"] for columns in own])
        if "mlc_row" in batch and self.with_variants:
            variants, harmful, row = ([columns[name] for columns in own] for name in COLUMNS)
            # As a mapping, so that the trainer moves the tensors to the device with the rest of the batch.
            batch["mlc_variants"] = collate_variants(variants, harmful, row, self.pad)._asdict()
        return batch


class BaseReference(NamedTuple):
    """What is kept of the base on P training prompts in K languages, computed once.

    ``anchors`` of the direction; ``centres`` (K, d), mean representations per language; ``openings`` (K, V), how it
    begins a refusal; ``tokens`` and ``probabilities`` (P, K, k), its likeliest next tokens. None where not needed.
    """

    anchors: Anchors | None
    centres: Tensor | None
    openings: Tensor | None
    tokens: Tensor | None
    probabilities: Tensor | None


class HeadRests(TrainerCallback):
    """Takes the head's gradient off on optimizer steps without the objective, so that AdamW leaves the head alone.

    As in the authors' code, where the head has no gradient then; by one of zero, momentum and weight decay would move
    it.
    """

    def __init__(self, trainer: MLCMixin) -> None:
        self.trainer = trainer

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        head = self.trainer._head(self.trainer.model)
        if head is not None and not self.trainer._objective_is_due():
            for parameter in head.parameters():
                parameter.grad = None


class MLCMixin(FiniteMixin):
    """Adds the consistency objective to a TRL trainer; see [`MLCArguments`] for its settings.

    Raises:
        ValueError: the training set lacks a column, a setting does not fit the others, or the trainer's own data
            collator was replaced.
    """

    def __init__(self, model: Any, args: Any, train_dataset: Any = None, **kwargs: Any) -> None:
        self._base: BaseReference | None = None
        self._consistency_metrics: dict[str, list[float]] = defaultdict(list)
        if args.mlc_weight:
            self._check(args, train_dataset)
            if isinstance(model, str):
                model = AutoModelForCausalLM.from_pretrained(model, **(args.model_init_kwargs or {}))
                args.model_init_kwargs = None
            if kwargs.get("processing_class") is None:
                kwargs["processing_class"] = AutoTokenizer.from_pretrained(model.config.name_or_path)
            train_dataset = with_token_ids(train_dataset, args.mlc_languages, kwargs["processing_class"])
            if args.mlc_objective != "direction" and args.mlc_projection:
                # Before the parent wraps the model and builds its optimizer, so that the head is trained and saved.
                width = decoder(model).config.hidden_size
                set_seed(args.seed)  # the head's weights, on every process alike
                model.mlc_head = nn.Linear(width, args.mlc_projection, dtype=torch.float32)
                if kwargs.get("peft_config"):
                    kwargs["peft_config"] = copy.deepcopy(kwargs["peft_config"])
                    kwargs["peft_config"].modules_to_save = [
                        *(kwargs["peft_config"].modules_to_save or []), "mlc_head",
                    ]  # fmt: skip
        super().__init__(model=model, args=args, train_dataset=train_dataset, **kwargs)  # type: ignore[call-arg]
        if isinstance(self.train_dataset, Dataset):
            # Here, because a parent may have dropped rows that are too long.
            self.train_dataset = self.train_dataset.add_column("row", list(range(len(self.train_dataset))))
            self.data_collator = VariantCollator(self.data_collator, self._pad, bool(args.mlc_weight))
        if args.mlc_weight:
            if (head := self._head(self.model)) is not None:
                head.float()  # a parent makes all that is trained over a base in 4 bits bfloat16
                self.add_callback(HeadRests(self))
            if self.is_fsdp_enabled and args.mlc_chunk_tokens:
                raise ValueError(
                    "mlc_chunk_tokens runs the model inside the backward pass, which FSDP does not support: set it to "
                    "None and use gradient_checkpointing"
                )
            reference: list[BaseReference | None] = [self._cache_base() if self.accelerator.is_main_process else None]
            self._base = broadcast_object_list(reference)[0]

    # What the parent trainers provide.
    args: Any
    model: Any
    accelerator: Any
    state: Any
    processing_class: PreTrainedTokenizerBase
    add_callback: Callable[[TrainerCallback], None]
    train_dataset: Dataset
    data_collator: Any
    is_fsdp_enabled: bool
    model_accepts_loss_kwargs: bool
    current_gradient_accumulation_steps: int
    _signature_columns: list[str]

    @staticmethod
    def _check(args: MLCArguments, train_dataset: Any) -> None:
        if not isinstance(train_dataset, Dataset):
            raise ValueError("the consistency objective needs a datasets.Dataset to train on, not a stream")
        needed = {"variants"}
        if args.mlc_objective == "direction" or args.mlc_refusal_weight or args.mlc_retain_weight:
            needed.add("harmful")
            if not set(args.mlc_trusted_languages) & set(args.mlc_languages):
                raise ValueError("mlc_trusted_languages names none of mlc_languages: where is the base already safe?")
        if missing := needed - set(train_dataset.column_names):
            raise ValueError(f"the training set lacks the columns {sorted(missing)} that the objective needs")
        if getattr(args, "packing", False) or getattr(args, "padding_free", False):
            raise ValueError("packing and padding_free mix prompts up: switch them off, or set mlc_weight to 0")
        if args.mlc_objective not in ("mlc", "cosine", "relational", "direction"):
            raise ValueError(f"mlc_objective = {args.mlc_objective!r}: choose mlc, cosine, relational or direction")
        if args.mlc_centred and args.mlc_projection and args.mlc_objective != "direction":
            raise ValueError("mlc_centred is of the model's representations: set mlc_projection to None")
        if args.mlc_contrast_weight and getattr(args, "per_device_train_batch_size", 2) < 2:
            raise ValueError("the contrastive term needs per_device_train_batch_size >= 2: the others are negatives")

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        own = COLUMNS if self.args.mlc_weight else ("row",)
        self._signature_columns += [name for name in own if name not in self._signature_columns]

    def _of(self, tags: list[str]) -> Tensor:
        """(K,) bool: which of the languages are among ``tags``."""
        return torch.tensor([tag in tags for tag in self.args.mlc_languages], device=self.accelerator.device)

    @torch.no_grad()
    def _cache_base(self) -> BaseReference | None:
        """One pass over all training prompts with the policy as it is before training, where anything needs it."""
        args, device = self.args, self.accelerator.device
        directed = args.mlc_objective == "direction"
        if not (directed or args.mlc_centred or args.mlc_refusal_weight or args.mlc_retain_weight):
            return None
        rows = self.train_dataset["variants"]
        present = torch.tensor([[bool(ids) for ids in row] for row in rows], device=device)
        harmful = torch.tensor(list(self.train_dataset["harmful"]), device=device)
        where = present.nonzero().tolist()
        prompts = [rows[p][k] for p, k in where]
        stack = decoder(self.model)
        vocabulary = self.model.get_output_embeddings().weight.shape[0]
        hidden = torch.zeros(*present.shape, stack.config.hidden_size, device=device)
        sums = torch.zeros(2, present.shape[1], vocabulary, device=device)  # over harmful, and benign, prompts
        retain, refusal = bool(args.mlc_retain_weight), bool(args.mlc_refusal_weight)
        likeliest = min(BASE_TOKENS, vocabulary) if retain else 0
        tokens = torch.zeros(*present.shape, likeliest, dtype=torch.int32)
        probabilities = torch.zeros(*present.shape, likeliest)
        model = self.model.to(device)  # FSDP leaves it where it was loaded until training starts
        training = model.training
        model.eval()
        for batch in batches_by_tokens([len(ids) for ids in prompts], BASE_BATCH_TOKENS):
            ids, mask = padded([prompts[i] for i in batch], self._pad, "left")
            with self.accelerator.autocast():
                h, logits = encode(model, ids.to(device), mask.to(device), args.mlc_layer)
            p, k = torch.tensor([where[i] for i in batch]).T
            hidden[p, k] = h.float()
            q = logits.float().softmax(-1)
            # A product, as index_put_ adds in whatever order its threads come to it.
            cell = F.one_hot((~harmful[p]).long() * present.shape[1] + k.to(device), 2 * present.shape[1])
            sums += (cell.T.to(q) @ q).view_as(sums)
            if retain:
                best = q.topk(likeliest, -1)
                tokens[p, k], probabilities[p, k] = best.indices.cpu().int(), best.values.cpu()
        model.train(training)
        counts = torch.stack([(present & side[:, None]).sum(0) for side in (harmful, ~harmful)])
        means = sums / counts.clamp(min=1)[..., None]
        return BaseReference(
            anchors(hidden, present, harmful, self._of(args.mlc_trusted_languages)) if directed else None,
            hidden.sum(0) / present.sum(0).clamp(min=1)[:, None] if args.mlc_centred else None,
            refusal_openings(means[0], means[1], 0) if refusal else None,
            tokens if retain else None,
            probabilities if retain else None,
        )

    @property
    def _pad(self) -> int:
        return pad_token(self.processing_class)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        variants = inputs.pop("mlc_variants", None)
        result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]
        if not (self.args.mlc_weight and model.training):
            return result
        if variants is None:
            raise ValueError("a training batch came without variants: keep the trainer's own data collator")
        if self._objective_is_due():
            added = self._consistency(model, Variants(**variants))
        elif (head := self._head(model)) is not None:
            # A gradient of zero, as several processes need one of every parameter; HeadRests takes it off again.
            added = torch.stack([0 * parameter.sum() for parameter in head.parameters()]).sum()
        else:
            return result
        scaled = getattr(self, "loss_is_scaled_for_ga", None)
        if scaled or (scaled is None and self.model_accepts_loss_kwargs and num_items_in_batch is not None):
            # The parent's loss is already divided by the items of the whole accumulation window.
            added = added / self.current_gradient_accumulation_steps
        return (result[0] + added, *result[1:]) if return_outputs else result + added

    def _objective_is_due(self) -> bool:
        """Whether the objective belongs to this optimizer step: the first, and every ``mlc_every``-th after it."""
        return bool(self.state.global_step % self.args.mlc_every == 0)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs:
            logs |= {name: sum(values) / len(values) for name, values in self._consistency_metrics.items()}
            self._consistency_metrics.clear()
        super().log(logs, *args, **kwargs)  # type: ignore[misc]

    def _head(self, model: nn.Module) -> nn.Module | None:
        unwrapped: Any = self.accelerator.unwrap_model(model)
        return getattr(unwrapped.get_base_model() if isinstance(unwrapped, PeftModel) else unwrapped, "mlc_head", None)

    def _consistency(self, model: nn.Module, variants: Variants) -> Tensor:
        args, present, harmful = self.args, variants.present, variants.harmful
        with self.accelerator.autocast():
            if self.is_fsdp_enabled:  # all processes run the model equally often
                hidden, logits = encode(model, variants.ids, variants.mask, args.mlc_layer)
                padding = 1 - variants.mask.float().mean().item()
            else:
                # Past the distributed wrapper, which the parent's forward pass has prepared for the backward pass.
                hidden, logits, padding = encode_chunks(
                    self.accelerator.unwrap_model(model),
                    variants.ids,
                    variants.mask,
                    args.mlc_layer,
                    args.mlc_chunk_tokens,
                )
        parts = {"loss": (args.mlc_weight, self._objective(model, hidden, variants))}
        trusted = self._of(args.mlc_trusted_languages)
        if self._base is not None and self._base.openings is not None:
            pupil = present & ~trusted & harmful[:, None]
            openings = self._base.openings[pupil.nonzero()[:, 1]]
            parts["refusal"] = (args.mlc_refusal_weight, refusal_loss(logits[pupil[present]], openings, pupil))
        if self._base is not None and self._base.tokens is not None and self._base.probabilities is not None:
            kept = present & (~harmful[:, None] | trusted)
            prompt, language = (index.cpu() for index in kept.nonzero(as_tuple=True))
            at = (variants.row.cpu()[prompt], language)
            tokens, p = (t[at].to(logits.device) for t in (self._base.tokens, self._base.probabilities))
            parts["retain"] = (args.mlc_retain_weight, retain_loss(logits[kept[present]], tokens, p, kept))
        for name, (_, value) in parts.items():
            mean = self.accelerator.reduce(value.detach(), "mean")  # over the processes, as the loss is
            self._consistency_metrics[f"mlc/{name}"].append(mean.item())
        self._consistency_metrics["mlc/padding"].append(padding)
        return torch.stack([weight * value for weight, value in parts.values()]).sum()

    def _objective(self, model: nn.Module, hidden: Tensor, variants: Variants) -> Tensor:
        args, present = self.args, variants.present
        if (head := self._head(model)) is not None:
            hidden = head(hidden.float())
        stacked = hidden.new_zeros(*present.shape, hidden.shape[-1])
        stacked[present] = hidden
        if args.mlc_objective == "direction":
            assert self._base is not None and self._base.anchors is not None
            axis, centres, targets = self._base.anchors
            projection = projections(stacked, centres, axis)
            return direction_loss(projection, targets[variants.row], present, variants.harmful, args.mlc_hinge)
        if args.mlc_centred:
            assert self._base is not None and self._base.centres is not None
            stacked = stacked.float() - self._base.centres
        source = 0 if args.mlc_anchored else None
        if args.mlc_objective == "mlc":
            loss = mlc_loss(stacked, present, args.mlc_temperature, source)
        elif args.mlc_objective == "cosine":
            loss = cosine_loss(stacked, present, source)
        else:
            loss = relational_loss(stacked, present, 0)
        if args.mlc_contrast_weight:
            loss = loss + args.mlc_contrast_weight * contrastive_loss(stacked, present, args.mlc_temperature)
        return loss


def with_token_ids(dataset: Dataset, languages: list[str], tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """``variants`` as token ids of the chat, K lists, empty where one is missing; ``harmful`` false if not given.

    Raises:
        ValueError: no variant is in one of the languages.
    """
    variants = dataset["variants"]
    if isinstance(variants[0], dict):
        if lacking := [tag for tag in languages if not any(row.get(tag) for row in variants)]:
            raise ValueError(f"no prompt has a variant in {lacking}: mlc_languages and the variants column differ")
        ids = [[head_ids(tokenizer, row[tag]) if row.get(tag) else [] for tag in languages] for row in variants]
        dataset = dataset.remove_columns("variants").add_column("variants", ids)
    if "harmful" not in dataset.column_names:
        dataset = dataset.add_column("harmful", [False] * len(dataset))
    return dataset


class MLCDPOTrainer(MLCMixin, DPOTrainer):
    """[`trl.DPOTrainer`] with a consistency objective."""


class MLCSFTTrainer(MLCMixin, SFTTrainer):
    """[`trl.SFTTrainer`] with a consistency objective."""


class MLCORPOTrainer(MLCMixin, ORPOTrainer):
    """[`trl.experimental.orpo.ORPOTrainer`] with a consistency objective."""


class MLCCPOTrainer(MLCMixin, CPOTrainer):
    """[`trl.experimental.cpo.CPOTrainer`] with a consistency objective; with `loss_type="simpo"`, SimPO."""


class MLCKTOTrainer(MLCMixin, KTOTrainer):
    """[`trl.KTOTrainer`] with a consistency objective. Its training set is unpaired already, not pairs."""
