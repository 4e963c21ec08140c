"""The trainer and its training set, as the settings have them."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterable
from typing import Any, NotRequired, TypedDict

import torch
from datasets import Dataset
from datasets.utils.logging import disable_progress_bar as no_datasets_bars
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import is_bitsandbytes_available
from transformers.utils.logging import disable_progress_bar as no_transformers_bars

from mlc.errors import MlcError
from mlc.models import inference
from mlc.paths import Paths
from mlc.prompts.schema import PromptRow
from mlc.settings import Languages, Lora, Objective, Train
from mlc.training.config import MLCCPOConfig, MLCDPOConfig, MLCKTOConfig, MLCORPOConfig, MLCSFTConfig
from mlc.training.lengths import fitting
from mlc.training.trainers import (
    MLCCPOTrainer,
    MLCDPOTrainer,
    MLCKTOTrainer,
    MLCORPOTrainer,
    MLCSFTTrainer,
)

AnyTrainer = MLCDPOTrainer | MLCSFTTrainer | MLCORPOTrainer | MLCCPOTrainer | MLCKTOTrainer


class Message(TypedDict):
    role: str
    content: str


class Example(TypedDict):
    """A row of the training set: the prompt, the objective's columns, and the replies as the paradigm has them."""

    id: str
    prompt: list[Message]
    variants: dict[str, str | None]
    harmful: bool
    completion: NotRequired[list[Message]]
    label: NotRequired[bool]
    chosen: NotRequired[list[Message]]
    rejected: NotRequired[list[Message]]


def with_pairs(rows: Iterable[PromptRow], source: str) -> list[PromptRow]:
    """The rows that can be trained on: with a pair of replies, and a prompt in the source language.

    Raises:
        MlcError: there is none.
    """
    if found := [row for row in rows if row.chosen is not None and source in row.prompts]:
        return found
    raise MlcError(f"no alignment prompt has 'chosen' and 'rejected' replies and a prompt in {source}")


def training_set(rows: list[PromptRow], languages: Languages, train: Train) -> Dataset:
    """One row per preference pair in the source language (two for kto), with the objective's columns.

    Raises:
        MlcError: no row has a pair, or the method needs harmful and benign prompts and one kind is missing.
    """
    rows = with_pairs(rows, languages.source)
    kinds = {row.intent for row in rows}
    if train.objective.name == "direction" and train.objective.weight and len(kinds) < 2:
        raise MlcError(f"the direction objective compares harmful with benign prompts, and all are {kinds.pop()}")
    examples: list[Example] = []
    for row in rows:
        chosen, rejected = ([Message(role="assistant", content=getattr(row, name))] for name in ("chosen", "rejected"))
        common: Example = {
            "id": row.id,
            "prompt": [{"role": "user", "content": row.prompts[languages.source]}],
            "variants": {tag: row.prompts.get(tag) for tag in languages.served},
            "harmful": row.intent == "harmful",
        }
        if train.paradigm == "sft":
            examples.append({**common, "completion": chosen})
        elif train.paradigm == "kto":
            examples.append({**common, "completion": chosen, "label": True})
            examples.append({**common, "completion": rejected, "label": False})
        else:
            examples.append({**common, "chosen": chosen, "rejected": rejected})
    return Dataset.from_list(examples)


def build_trainer(
    rows: list[PromptRow], languages: Languages, train: Train, paths: Paths
) -> tuple[AnyTrainer, PreTrainedTokenizerBase]:
    """The trainer over the base in ``artifacts/base``, ready to train, and the tokenizer as the base has it.

    Raises:
        MlcError: no prompts to train on, too many that are too long (see :func:`fitting`), an adapter in 4 bits without
            bitsandbytes, or a way to split the model that does not work.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # about TRL's own calls
    no_datasets_bars()
    no_transformers_bars()
    dtype = getattr(torch, train.precision)
    model: PreTrainedModel
    model, loading = AutoModelForCausalLM.from_pretrained(
        paths.base, dtype=dtype, quantization_config=_quantization(train), output_loading_info=True, **inference.SAFE
    )
    try:
        inference.check_whole(loading)
    except ValueError as error:
        raise MlcError(f"{paths.base}: {error}") from None
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(paths.base)
    # So that weights that are exported stop where replies were trained to end, wherever they are served.
    model.generation_config.eos_token_id = inference.stop_tokens(model.generation_config, tokenizer)
    rows, _ = fitting(rows, languages, train, tokenizer)
    dataset = training_set(rows, languages, train)
    common: dict[str, Any] = {
        "output_dir": str(paths.checkpoints),
        "max_steps": train.max_steps,
        "learning_rate": train.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": round(train.warmup_ratio * train.max_steps),
        "per_device_train_batch_size": train.batch_size,
        "gradient_accumulation_steps": train.gradient_accumulation_steps,
        "max_length": train.max_length,
        "bf16": train.precision == "bfloat16",
        "gradient_checkpointing": train.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if train.gradient_checkpointing else None,
        "ddp_find_unused_parameters": False,
        "seed": train.seed,
        "save_steps": train.save_steps,
        "save_total_limit": 2,
        "logging_steps": max(1, train.max_steps // 20),
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "use_cpu": not torch.accelerator.is_available(),  # else several processes on CPU would each train alone
        "report_to": "none",
        "mlc_languages": sorted(languages.served, key=lambda tag: tag != languages.source),  # the source first
        **objective_arguments(train.objective),
    }
    rest: dict[str, Any] = {
        "train_dataset": dataset,
        "processing_class": _with_pad_token(tokenizer),
        "peft_config": _adapter(train.lora),
    }
    trainer: AnyTrainer
    if train.paradigm == "sft":
        trainer = MLCSFTTrainer(model, MLCSFTConfig(**common, completion_only_loss=True), **rest)
    elif train.paradigm == "orpo":
        trainer = MLCORPOTrainer(model, MLCORPOConfig(**common, beta=train.beta), **rest)
    elif train.paradigm == "kto":
        trainer = MLCKTOTrainer(model, MLCKTOConfig(**common, beta=train.beta), **rest)
    elif train.paradigm == "simpo":
        simpo: dict[str, Any] = {"loss_type": "simpo", "simpo_gamma": train.simpo_gamma, "cpo_alpha": train.sft_weight}
        trainer = MLCCPOTrainer(model, MLCCPOConfig(**common, beta=train.beta, **simpo), **rest)
    else:
        # The chosen reply's likelihood beside DPO keeps it from decaying, which turns replies to garbage.
        losses: dict[str, Any] = (
            {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, train.sft_weight]} if train.sft_weight else {}
        )
        trainer = MLCDPOTrainer(model, MLCDPOConfig(**common, beta=train.beta, **losses), **rest)
    if len(trainer.train_dataset) != len(dataset):
        raise RuntimeError(f"of {len(dataset)} rows that fit, TRL trains on {len(trainer.train_dataset)}")
    _check_split(trainer.accelerator.state, train)
    return trainer, tokenizer


def _with_pad_token(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A copy for the trainers: all of TRL's need a pad token, some set one, and the base's tokenizer stays as it is."""
    copied = copy.deepcopy(tokenizer)
    if copied.pad_token_id is None:
        copied.pad_token = copied.convert_ids_to_tokens(inference.pad_token(copied))
    return copied


def objective_arguments(objective: Objective) -> dict[str, Any]:
    """The settings as the trainers' arguments (``MLCArguments``), which have the same names behind ``mlc_``."""
    arguments = {f"mlc_{name}": value for name, value in objective}
    arguments["mlc_objective"] = arguments.pop("mlc_name")
    arguments["mlc_trusted_languages"] = list(objective.trusted_languages)
    return arguments


def _adapter(lora: Lora | None) -> LoraConfig | None:
    if lora is None:
        return None
    modules = lora.target_modules
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        task_type="CAUSAL_LM",
    )


def _quantization(train: Train) -> BitsAndBytesConfig | None:
    """How the base is held in 4 bits beneath an adapter (QLoRA, arXiv 2305.14314), None where it is not.

    Raises:
        MlcError: bitsandbytes is not installed.
    """
    if train.lora is None or not train.lora.load_in_4bit:
        return None
    if not is_bitsandbytes_available():
        raise MlcError('train.lora.load_in_4bit needs bitsandbytes: pip install "mlc-pipeline[qlora]"')
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, train.precision),
    )


def _check_split(state: Any, train: Train) -> None:
    """Refuses ways to split the model over processes that do not work; ``state`` is accelerate's.

    Raises:
        MlcError: an adapter under DeepSpeed ZeRO-3, or FSDP without a device that has it.
    """
    deepspeed = getattr(state, "deepspeed_plugin", None)
    if train.lora and deepspeed is not None and deepspeed.zero_stage == 3:
        raise MlcError(
            "train.lora does not go with DeepSpeed ZeRO-3: it gathers the split weights in its engine's own forward "
            "pass, and the objective's goes around the engine. Use ZeRO-2 or DDP, or set train.lora to null"
        )
    if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true" and getattr(state, "fsdp_plugin", None) is None:
        raise MlcError(
            f"{train.accelerate} asks for FSDP, which accelerate does not have on {state.device.type}: it would keep "
            "the whole model in every process without saying so. Use recipes/accelerate/ddp.yaml"
        )
