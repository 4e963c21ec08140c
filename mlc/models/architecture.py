"""Whether a base's architecture can be trained, evaluated and served: told from its config.json, before anything is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlc.errors import MlcError

INSTEAD = "a decoder-only instruct model that transformers knows will do, such as Llama, Qwen or Gemma"
NO_LAYERS = "has no list of decoder layers, where the objectives read hidden states"
# What no look at the configuration or the layers tells; tests/models/test_architectures.py holds that this is all.
REFUSED = {
    "gemma3n": "keeps several hidden states for a token, and the objectives need one",
    "gemma3n_text": "keeps several hidden states for a token, and the objectives need one",
    "trocr": "is the decoder of an encoder-decoder, and only decoder-only models are aligned",
    "xlm": NO_LAYERS,
    "xlnet": "has hidden states by token and not by row, and the objectives need them by row",
}


def check_architecture(folder: Path, name: str) -> None:
    """Builds the model without its weights and looks for what training and generation need.

    Raises:
        MlcError: this architecture is not supported; what is missing, and what would do.
    """
    if missing := unsupported(folder):
        raise MlcError(f"base.model = {name}: {missing}; {INSTEAD}")


def unsupported(folder: Path) -> str | None:
    """What an architecture lacks, None where it is supported."""
    given: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = given.get("model_type")
    if not isinstance(kind, str):
        return "config.json names no model_type"
    import torch
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    from mlc.models.representations import decoder

    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        code = " and comes with code of its own (auto_map), which is never run" if given.get("auto_map") else ""
        version = f"transformers {transformers.__version__}"
        return f"model_type = {kind} is no causal language model that {version} knows{code}"
    if kind in REFUSED:
        return f"model_type = {kind} {REFUSED[kind]}"
    try:
        config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if config.is_encoder_decoder:
            return f"model_type = {kind} is an encoder-decoder, and only decoder-only models are aligned"
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # whatever a configuration that does not fit its architecture sets off
        first = str(error).strip().split("\n")[0]
        return f"model_type = {kind} cannot be built from config.json ({type(error).__name__}: {first})"
    try:
        decoder(model)
    except ValueError:
        return f"model_type = {kind} {NO_LAYERS}"
    return None
