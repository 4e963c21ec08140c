"""The trainers: their parent when the weights are zero, exact otherwise, and loud when something is missing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from mlc.prompts.schema import PromptRow
from mlc.settings import load_settings
from mlc.training.build import objective_arguments
from mlc.training.config import MLCArguments, MLCCPOConfig, MLCDPOConfig, MLCKTOConfig, MLCORPOConfig, MLCSFTConfig
from mlc.training.trainers import MLCCPOTrainer, MLCDPOTrainer, MLCKTOTrainer, MLCORPOTrainer, MLCSFTTrainer

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


PARADIGMS: dict[str, tuple[type, type, type, type, dict[str, Any]]] = {
    "dpo": (DPOTrainer, DPOConfig, MLCDPOTrainer, MLCDPOConfig, {}),
    "sft": (SFTTrainer, SFTConfig, MLCSFTTrainer, MLCSFTConfig, {}),
    "orpo": (ORPOTrainer, ORPOConfig, MLCORPOTrainer, MLCORPOConfig, {}),
    "simpo": (CPOTrainer, CPOConfig, MLCCPOTrainer, MLCCPOConfig, {"loss_type": "simpo", "cpo_alpha": 0.0}),
    "kto": (KTOTrainer, KTOConfig, MLCKTOTrainer, MLCKTOConfig, {}),
}


def dataset(rows: list[PromptRow], paradigm: str) -> Dataset:
    examples: list[dict[str, Any]] = []
    for i, row in enumerate(rows):
        chosen, rejected = ([{"role": "assistant", "content": text}] for text in (row.chosen, row.rejected))
        common = {
            "prompt": [{"role": "user", "content": row.prompts["en"]}],
            "variants": {tag: row.prompts[tag] for tag in LANGUAGES},
            "harmful": row.intent == "harmful",
        }
        if paradigm == "sft":
            examples.append(common | {"completion": chosen})
        elif paradigm == "kto":
            examples.append(common | {"completion": chosen if i % 4 < 2 else rejected, "label": i % 4 < 2})
        else:
            examples.append(common | {"chosen": chosen, "rejected": rejected})
    return Dataset.from_list(examples)


def trainer(
    paradigm: str,
    base: Path,
    rows: list[PromptRow],
    out: Path,
    lora: bool = False,
    plain: bool = False,
    **arguments: Any,
) -> Any:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    parent, parent_config, kind, config, own = PARADIGMS[paradigm]
    data = dataset(rows, paradigm)
    if plain:
        kind, config, data = parent, parent_config, data.remove_columns(["variants", "harmful"])
    else:
        arguments["mlc_languages"] = LANGUAGES
    args = config(
        output_dir=str(out), **{**COMMON, "max_steps": 2, "per_device_train_batch_size": 4, **own, **arguments}
    )
    peft = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM") if lora else None
    return kind(model=model, args=args, train_dataset=data, processing_class=tokenizer, peft_config=peft)


def weights(t: Any) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in t.model.state_dict().items() if "mlc_head" not in k}


@pytest.mark.parametrize("paradigm", PARADIGMS)
def test_weight_zero_is_the_parent_bit_for_bit(
    paradigm: str, tiny_base: Path, alignment_rows: list[PromptRow], tmp_path: Path
) -> None:
    plain = trainer(paradigm, tiny_base, alignment_rows, tmp_path, plain=True)
    plain.train()
    zero = trainer(paradigm, tiny_base, alignment_rows, tmp_path, mlc_weight=0.0, mlc_retain_weight=1.0)
    zero.train()
    for (name, a), (_, b) in zip(weights(plain).items(), weights(zero).items(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(("paradigm", "lora"), [*((name, False) for name in PARADIGMS), ("dpo", True)])
@pytest.mark.parametrize(
    "arguments",
    [
        {"mlc_every": 1, "mlc_projection": 8},
        {**DIRECTION, "mlc_retain_weight": 1.0, "mlc_refusal_weight": 0.5},
    ],
    ids=["published", "direction"],
)
def test_the_objective_is_trained_and_logged(
    arguments: dict[str, Any],
    paradigm: str,
    lora: bool,
    tiny_base: Path,
    alignment_rows: list[PromptRow],
    tmp_path: Path,
) -> None:
    t = trainer(paradigm, tiny_base, alignment_rows, tmp_path, lora=lora, **arguments)
    head = {n: p.detach().clone() for n, p in t.model.named_parameters() if "mlc_head" in n and p.requires_grad}
    t.train()
    logged = [entry for entry in t.state.log_history if "loss" in entry]
    expected = {"mlc/loss"} | ({"mlc/retain", "mlc/refusal"} if "mlc_retain_weight" in arguments else set())
    assert all(expected <= set(entry) for entry in logged)
    if "mlc_retain_weight" in arguments:
        assert logged[0]["mlc/retain"] == pytest.approx(0, abs=1e-5)  # the policy still is the base, from the cache
    else:
        assert head and all(not torch.equal(p, dict(t.model.named_parameters())[n]) for n, p in head.items())


@pytest.mark.parametrize("paradigm", ["dpo", "sft"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"mlc_every": 1, "mlc_projection": None},
        {"mlc_every": 1, "mlc_projection": 8, "mlc_objective": "cosine", "mlc_anchored": True},
        {**DIRECTION, "mlc_retain_weight": 1.0, "mlc_refusal_weight": 0.5},
    ],
    ids=["published", "cosine", "direction"],
)
def test_accumulation_equals_a_larger_batch(
    paradigm: str, arguments: dict[str, Any], tiny_base: Path, alignment_rows: list[PromptRow], tmp_path: Path
) -> None:
    """Of everything that is added: the parent's own rounding differs with the batch already."""

    def step(batch: int, accumulation: int) -> dict[str, torch.Tensor]:
        t = trainer(
            paradigm, tiny_base, alignment_rows[:4], tmp_path, max_steps=1, per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation, learning_rate=0.1, optim="sgd", max_grad_norm=1e9,
            lr_scheduler_type="constant", **arguments,
        )  # fmt: skip
        t.train()
        return weights(t)

    for (name, a), (_, b) in zip(step(4, 1).items(), step(1, 4).items(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-3, msg=name)


def test_every_second_step(tiny_base: Path, alignment_rows: list[PromptRow], tmp_path: Path) -> None:
    t = trainer("dpo", tiny_base, alignment_rows, tmp_path, max_steps=4, mlc_projection=None)
    t.train()
    assert ["mlc/loss" in e for e in t.state.log_history if "loss" in e] == [True, False, True, False]


def test_resuming_gives_the_same_model(tiny_base: Path, alignment_rows: list[PromptRow], tmp_path: Path) -> None:
    settings = {"mlc_every": 1, "mlc_projection": 8, "save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    whole = trainer("dpo", tiny_base, alignment_rows, tmp_path / "a", **settings)
    whole.train()
    resumed = trainer("dpo", tiny_base, alignment_rows, tmp_path / "b", **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    for (name, a), (_, b) in zip(whole.model.state_dict().items(), resumed.model.state_dict().items(), strict=True):
        torch.testing.assert_close(a, b, msg=name)  # the projection head among them


def test_missing_columns_are_refused(tiny_base: Path, alignment_rows: list[PromptRow], tmp_path: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_base), AutoTokenizer.from_pretrained(tiny_base)
    data = dataset(alignment_rows, "dpo").remove_columns(["variants"])
    args = MLCDPOConfig(output_dir=str(tmp_path), mlc_languages=LANGUAGES, **COMMON)
    with pytest.raises(ValueError, match=r"lacks the columns \['variants'\]"):
        MLCDPOTrainer(model=model, args=args, train_dataset=data, processing_class=tokenizer)


def test_another_collator_is_refused(tiny_base: Path, alignment_rows: list[PromptRow], tmp_path: Path) -> None:
    t = trainer("dpo", tiny_base, alignment_rows, tmp_path, mlc_every=1)
    t.data_collator = t.data_collator.parent
    with pytest.raises(ValueError, match="without variants"):
        t.train()


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_chunks_that_are_run_again_change_nothing(
    lora: bool, tiny_base: Path, alignment_rows: list[PromptRow], tmp_path: Path
) -> None:
    def step(tokens: int | None) -> dict[str, torch.Tensor]:
        settings = {
            **DIRECTION,
            "mlc_retain_weight": 1.0,
            "mlc_refusal_weight": 0.5,
            "optim": "sgd",
            "learning_rate": 0.1,
        }
        t = trainer("dpo", tiny_base, alignment_rows, tmp_path, lora=lora, mlc_chunk_tokens=tokens, **settings)
        t.train()
        assert all(entry["mlc/padding"] < 0.1 for entry in t.state.log_history if "loss" in entry)
        return weights(t)

    for (name, a), (_, b) in zip(step(None).items(), step(40).items(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    "arguments",
    [
        {"mlc_objective": "relational", "mlc_layer": 1},
        {"mlc_objective": "cosine", "mlc_centred": True},
        {"mlc_objective": "mlc", "mlc_anchored": True, "mlc_contrast_weight": 0.5},
    ],
    ids=lambda arguments: "-".join(str(value) for value in arguments.values()),
)
def test_the_alternatives_train(
    arguments: dict[str, Any], tiny_base: Path, alignment_rows: list[PromptRow], tmp_path: Path
) -> None:
    settings = {"mlc_every": 1, "mlc_projection": None, "max_steps": 12, "mlc_weight": 5.0} | arguments
    t = trainer("dpo", tiny_base, alignment_rows, tmp_path, **settings)
    t.train()
    losses = [entry["mlc/loss"] for entry in t.state.log_history if "loss" in entry]
    assert sum(losses[-4:]) < sum(losses[:4])


@pytest.mark.parametrize(
    ("paradigm", "arguments", "message"),
    [
        ("sft", {"packing": True}, "packing"),
        ("sft", {"padding_free": True}, "padding_free"),
        ("dpo", {"mlc_objective": "cosin"}, "choose mlc, cosine"),
        ("dpo", {"mlc_centred": True}, "set mlc_projection to None"),
        ("dpo", {**DIRECTION, "mlc_trusted_languages": ["fr"]}, "names none of mlc_languages"),
        ("dpo", {"mlc_contrast_weight": 1.0, "per_device_train_batch_size": 1}, "others are negatives"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    paradigm: str,
    arguments: dict[str, Any],
    message: str,
    tiny_base: Path,
    alignment_rows: list[PromptRow],
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match=message):
        trainer(paradigm, tiny_base, alignment_rows, tmp_path, **arguments)


def test_evaluation_rows_need_no_variants(tiny_base: Path, alignment_rows: list[PromptRow], tmp_path: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_base), AutoTokenizer.from_pretrained(tiny_base)
    data = dataset(alignment_rows, "dpo")
    args = MLCDPOConfig(output_dir=str(tmp_path), mlc_languages=LANGUAGES, **COMMON)
    held_out = data.remove_columns(["variants", "harmful"])
    t = MLCDPOTrainer(model=model, args=args, train_dataset=data, eval_dataset=held_out, processing_class=tokenizer)
    assert t.evaluate()["eval_loss"] > 0


def test_the_objectives_settings_and_arguments_have_the_same_fields() -> None:
    """Settings have ranges and no defaults, arguments TRL's defaults and documentation: neither may lack a field."""
    arguments = {field.name: field for field in dataclasses.fields(MLCArguments)}
    given = objective_arguments(load_settings(Path("params.yaml")).train.objective)
    assert given.keys() == arguments.keys() - {"mlc_languages"}
    assert not [name for name in arguments if f"{name} (" not in (MLCArguments.__doc__ or "")]
