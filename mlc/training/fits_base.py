"""Whether the settings of training fit the base: told from its config.json, before its weights are loaded."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from mlc.errors import MlcError
from mlc.settings import Lora, Train

BLOCK = 32  # of a layer's outputs: what bitsandbytes' kernel for CPUs takes at once
FUSED = ("dpo", "sft", "kto")  # whose trainers compute log-probabilities from the output layer's weight alone


def check(train: Train, base: Path) -> None:
    """Compares ``train`` with the base in a folder. It builds the model without weights, in a second or two.

    Raises:
        MlcError: the base lacks a layer or module that a setting names, or a setting does not work with it; the
            message begins with the setting's path.
    """
    config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    depth = int(config.get_text_config(decoder=True).num_hidden_layers)
    layer = train.objective.layer
    if train.objective.weight and layer not in (-1, *range(1, depth + 1)):
        raise MlcError(f"train.objective.layer is {layer}, and the base has layers 1 to {depth}, and -1 for the last")
    if train.lora is None:
        return
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    check_adapter(model, train.lora, train.paradigm)
    if train.lora.load_in_4bit and not torch.accelerator.is_available():
        _check_4bit_on_cpu(model)


def check_adapter(model: PreTrainedModel, lora: Lora, paradigm: str) -> None:
    """Refuses an adapter on layers that the model lacks, on an output layer that the method cannot train, and on an
    embedding that is the output layer too.

    Training adds its product to one of these two; merged, it changes both, and that is neither what was trained nor
    what an unmerged adapter answers.

    Raises:
        MlcError: ``lora.target_modules`` names such a layer.
    """
    if lora.target_modules == "all-linear":  # PEFT leaves out the output layer there
        return
    modules = dict(model.named_modules())
    if lacking := [target for target in lora.target_modules if not _named(target, modules)]:
        known = sorted({name.rsplit(".", 1)[-1] for name, module in modules.items() if isinstance(module, nn.Linear)})
        raise MlcError(
            f"train.lora.target_modules holds {', '.join(lacking)}, which the base lacks: its linear layers are"
            f" {', '.join(known)}; all-linear takes all but the output layer"
        )
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    on_output = [target for target in lora.target_modules if any(modules[n] is output for n in _named(target, modules))]
    on_either = on_output + [
        target for target in lora.target_modules if any(modules[n] is embedding for n in _named(target, modules))
    ]
    if on_either and output is not None and (embedding.weight is output.weight or model.config.tie_word_embeddings):
        raise MlcError(
            f"train.lora.target_modules holds {', '.join(on_either)}, and the base's embedding and output layer are one"
            " (tie_word_embeddings): merged, the adapter would change both, and training changes one. Leave it out, or"
            " set train.lora to null and train whole weights"
        )
    if on_output and paradigm in FUSED:
        raise MlcError(
            f"train.lora.target_modules holds {', '.join(on_output)}, the base's output layer, and {paradigm} reads its"
            " weight past the adapter, which would never be trained: leave it out"
        )


def _named(target: str, modules: dict[str, nn.Module]) -> list[str]:
    return [name for name in modules if name == target or name.endswith(f".{target}")]


def _check_4bit_on_cpu(model: PreTrainedModel) -> None:
    output = model.get_output_embeddings()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not output and module.out_features % BLOCK:
            raise MlcError(
                f"train.lora.load_in_4bit is true, and on a CPU bitsandbytes takes layers of a multiple of {BLOCK}"
                f" outputs alone: {name} has {module.out_features}. Train on a GPU, or set it to false"
            )
