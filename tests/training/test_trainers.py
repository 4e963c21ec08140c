"""The trainers: their parent when the weights are zero, exact otherwise, and loud when something is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from mlc.prompts.schema import PromptRow
from mlc.training.config import MLCDPOConfig, MLCSFTConfig
from mlc.training.trainers import COLUMNS, MLCDPOTrainer, MLCSFTTrainer, add_variants

LANGUAGES = ["en", "hi", "sw"]
COMMON: dict[str, Any] = {
    "learning_rate": 1e-3,
    "report_to": "none",
    "save_strategy": "no",
    "logging_steps": 1,
    "gradient_checkpointing": False,
    "bf16": False,
    "disable_tqdm": True,
    "seed": 3,
}
DIRECTION = {"mlc_objective": "direction", "mlc_trusted_languages": ["en"], "mlc_layer": 1, "mlc_every": 1}


def dataset(rows: list[PromptRow], tokenizer: Any, paradigm: str) -> Dataset:
    reply = {"chosen": "chosen", "rejected": "rejected"} if paradigm == "dpo" else {"completion": "chosen"}
    columns = {"prompt": [[{"role": "user", "content": row.prompts["en"]}] for row in rows]} | {
        name: [[{"role": "assistant", "content": getattr(row, source)}] for row in rows]
        for name, source in reply.items()
    }
    harmful = [row.intent == "harmful" for row in rows]
    return add_variants(Dataset.from_dict(columns), [row.prompts for row in rows], harmful, LANGUAGES, tokenizer)


def trainer(
    kind: type, config: type, base: Path, rows: list[PromptRow], out: Path, lora: bool = False, **arguments: Any
) -> Any:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    data = dataset(rows, tokenizer, "dpo" if "DPO" in kind.__name__ else "sft")
    if not issubclass(config, MLCDPOConfig | MLCSFTConfig):
        data = data.remove_columns(list(COLUMNS))
    else:
        arguments["mlc_languages"] = LANGUAGES
    args = config(output_dir=str(out), **{**COMMON, "max_steps": 2, "per_device_train_batch_size": 4, **arguments})
    peft = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM") if lora else None
    return kind(model=model, args=args, train_dataset=data, processing_class=tokenizer, peft_config=peft)


def weights(t: Any) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in t.model.state_dict().items() if "mlc_head" not in k}


@pytest.mark.parametrize(
    ("parent", "parent_config", "kind", "config"),
    [(DPOTrainer, DPOConfig, MLCDPOTrainer, MLCDPOConfig), (SFTTrainer, SFTConfig, MLCSFTTrainer, MLCSFTConfig)],
)
def test_weight_zero_is_the_parent_bit_for_bit(
    parent: type, parent_config: type, kind: type, config: type, tiny_base: Path, alignment_rows: list[PromptRow],
    tmp_path: Path,
) -> None:  # fmt: skip
    plain = trainer(parent, parent_config, tiny_base, alignment_rows, tmp_path)
    plain.train()
    zero = trainer(kind, config, tiny_base, alignment_rows, tmp_path, mlc_weight=0.0, mlc_retain_weight=1.0)
    zero.train()
    for (name, a), (_, b) in zip(weights(plain).items(), weights(zero).items(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"mlc_every": 1, "mlc_projection": 8},
        {**DIRECTION, "mlc_retain_weight": 1.0, "mlc_refusal_weight": 0.5},
    ],
    ids=["published", "direction"],
)
def test_the_objective_is_trained_and_logged(
    arguments: dict[str, Any], lora: bool, tiny_base: Path, alignment_rows: list[PromptRow], tmp_path: Path
) -> None:
    t = trainer(MLCDPOTrainer, MLCDPOConfig, tiny_base, alignment_rows, tmp_path, lora=lora, **arguments)
    head = {n: p.detach().clone() for n, p in t.model.named_parameters() if "mlc_head" in n and p.requires_grad}
    t.train()
    logged = [entry for entry in t.state.log_history if "loss" in entry]
    expected = {"mlc/loss"} | ({"mlc/retain", "mlc/refusal"} if "mlc_retain_weight" in arguments else set())
    assert all(expected <= set(entry) for entry in logged)
    if "mlc_retain_weight" in arguments:
        assert logged[0]["mlc/retain"] == pytest.approx(0, abs=1e-5)  # the policy still is the base
    else:
        assert head and all(not torch.equal(p, dict(t.model.named_parameters())[n]) for n, p in head.items())


@pytest.mark.parametrize(
    ("kind", "config"), [(MLCDPOTrainer, MLCDPOConfig), (MLCSFTTrainer, MLCSFTConfig)], ids=["dpo", "sft"]
)
@pytest.mark.parametrize(
    "arguments", [{"mlc_every": 1, "mlc_projection": None}, DIRECTION], ids=["published", "direction"]
)
def test_accumulation_equals_a_larger_batch(
    kind: type,
    config: type,
    arguments: dict[str, Any],
    tiny_base: Path,
    alignment_rows: list[PromptRow],
    tmp_path: Path,
) -> None:
    """Of the added gradient alone: the parent's own rounding differs with the batch already."""

    def step(batch: int, accumulation: int) -> dict[str, torch.Tensor]:
        t = trainer(
            kind, config, tiny_base, alignment_rows[:4], tmp_path, max_steps=1, per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation, learning_rate=0.1, optim="sgd", max_grad_norm=1e9,
            lr_scheduler_type="constant", **arguments,
        )  # fmt: skip
        t.train()
        return weights(t)

    for (name, a), (_, b) in zip(step(4, 1).items(), step(1, 4).items(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-3, msg=name)


def test_every_second_step(tiny_base: Path, alignment_rows: list[PromptRow], tmp_path: Path) -> None:
    t = trainer(MLCDPOTrainer, MLCDPOConfig, tiny_base, alignment_rows, tmp_path, max_steps=4, mlc_projection=None)
    t.train()
    assert ["mlc/loss" in e for e in t.state.log_history if "loss" in e] == [False, True, False, True]


def test_resuming_gives_the_same_model(tiny_base: Path, alignment_rows: list[PromptRow], tmp_path: Path) -> None:
    settings = {"mlc_every": 1, "mlc_projection": 8, "save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    whole = trainer(MLCDPOTrainer, MLCDPOConfig, tiny_base, alignment_rows, tmp_path / "a", **settings)
    whole.train()
    resumed = trainer(MLCDPOTrainer, MLCDPOConfig, tiny_base, alignment_rows, tmp_path / "b", **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    for (name, a), (_, b) in zip(whole.model.state_dict().items(), resumed.model.state_dict().items(), strict=True):
        torch.testing.assert_close(a, b, msg=name)  # the projection head among them


@pytest.mark.parametrize(
    ("arguments", "message"), [({"packing": True}, "packing"), ({"padding_free": True}, "padding_free")]
)
def test_packing_is_refused(
    arguments: dict[str, Any], message: str, tiny_base: Path, alignment_rows: list[PromptRow], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        trainer(MLCSFTTrainer, MLCSFTConfig, tiny_base, alignment_rows, tmp_path, **arguments)


def test_missing_columns_are_refused(tiny_base: Path, alignment_rows: list[PromptRow], tmp_path: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_base), AutoTokenizer.from_pretrained(tiny_base)
    data = dataset(alignment_rows, tokenizer, "dpo").remove_columns(["variants"])
    args = MLCDPOConfig(output_dir=str(tmp_path), mlc_languages=LANGUAGES, **COMMON)
    with pytest.raises(ValueError, match=r"lacks the columns \['variants'\]"):
        MLCDPOTrainer(model=model, args=args, train_dataset=data, processing_class=tokenizer)


def test_another_collator_is_refused(tiny_base: Path, alignment_rows: list[PromptRow], tmp_path: Path) -> None:
    t = trainer(MLCDPOTrainer, MLCDPOConfig, tiny_base, alignment_rows, tmp_path, mlc_every=1)
    t.data_collator = t.data_collator.parent
    with pytest.raises(ValueError, match="without variants"):
        t.train()
