"""Every shipped recipe is valid over params.yaml, and builds its trainer on a tiny model of its architecture."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlc.paths import Paths
from mlc.project.configure import overlay
from mlc.prompts.schema import PromptRow
from mlc.settings import load_settings
from mlc.training.build import build_trainer

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
MODELS = [name for name in RECIPES if name.endswith("published")]


def test_there_are_recipes() -> None:
    assert len(MODELS) >= 2 and len(RECIPES) > len(MODELS)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("over", [None, *(name for name in RECIPES if name not in MODELS)])
def test_a_recipe_builds_its_trainer(
    model: str, over: str | None, tmp_path: Path, tiny_base: Path, alignment_rows: list[PromptRow]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, Gemma2Config, Qwen2Config

    params = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", params)
    for recipe in (model, over):
        if recipe:
            overlay(params, ROOT / "recipes" / f"{recipe}.yaml")
    settings = load_settings(params)
    paths = Paths(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    kind = {"gemma": Gemma2Config, "qwen2": Qwen2Config}[settings.base.model.partition("/")[2].lower()[:5]]
    config = kind(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=16, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(paths.base)
    tokenizer.save_pretrained(paths.base)
    # The recipe's languages, all of them: which texts they hold does not matter here.
    everywhere = [
        row.model_copy(update={"prompts": dict.fromkeys(settings.languages.served, row.prompts["en"])})
        for row in alignment_rows
    ]
    train = settings.train.model_copy(update={"precision": "float32"})  # half precision is a GPU's
    trainer, _ = build_trainer(everywhere, settings.languages, train, paths)
    assert trainer.args.gradient_accumulation_steps * trainer.args.per_device_train_batch_size == 32
    assert (settings.train.lora is None) == (not hasattr(trainer.model, "peft_config"))
    assert settings.train.paradigm in type(trainer).__name__.lower() or settings.train.paradigm == "simpo"
    assert any("mlc_head" in name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad)
