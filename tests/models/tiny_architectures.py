"""A tiny model with random weights of any causal architecture of the installed transformers."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

TYPES = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
VOCABULARY = 96
LARGE = 10_000_000
# What makes a model small, under all the names that configurations have for it.
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "hidden_size": 32,
    "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48,
    "head_dim": 8, "max_position_embeddings": 128, "n_embd": 32, "n_layer": 4, "n_head": 4, "d_model": 32,
    "n_layers": 4, "n_heads": 4, "ffn_dim": 48, "word_embed_proj_dim": 32, "sliding_window": 8, "num_experts": 4,
    "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "attention_heads": 4,
    "max_seq_len": 128, "n_positions": 128, "q_lora_rank": 16, "kv_lora_rank": 8, "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": 4, "n_group": 1, "topk_group": 1,
    "first_k_dense_replace": 1, "n_shared_experts": 1, "rotary_dim": 4, "query_pre_attn_scalar": 8,
    "ffn_hidden_size": 48, "state_size": 8, "expand": 2, "num_heads": 4, "n_groups": 1, "chunk_size": 8,
    "embed_dim": 32, "hidden_dropout": 0.0, "attention_dropout": 0.0, "dropout": 0.0, "activation_dropout": 0.0,
    "decoder_layers": 2, "encoder_layers": 2, "decoder_ffn_dim": 48, "encoder_ffn_dim": 48,
    "decoder_attention_heads": 4, "encoder_attention_heads": 4, "is_decoder": True, "mamba_n_heads": 8,
    "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_expand": 2, "mamba_chunk_size": 8,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "shared_expert_intermediate_size": 16, "max_target_positions": 128, "max_source_positions": 128,
    "mlp_hidden_size": 48, "global_head_dim": 8, "conv_kernel": 4, "ssm_state_size": 8, "mamba_num_heads": 8,
    "mamba_head_dim": 8, "lru_width": 32, "attention_hidden_size": 32, "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0, "embedding_size": 32, "emb_dim": 32, "n_inner": 48,
    "dff": 48, "moe_shared_expert_intermediate_size": 16, "num_layers": 4, "window_size": 8,
}  # fmt: skip
# What a type needs besides, or other than that.
ALL_HEADS = {"num_key_value_heads": 4}
SMALL_VISION = {"vision_config": {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "image_size": 28, "patch_size": 14}}  # fmt: skip
MIXED = {"layer_types": ["linear_attention", "full_attention"] * 2}
MAMBA_ATTENTION = {"layer_types": ["mamba", "attention"] * 2}
GEMMA4 = {"layer_types": ["sliding_attention", "full_attention"] * 2, "per_layer_config": {}}
QWEN4 = {"indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 8,
    "indexer_compress_ratio": 4}  # fmt: skip
BESIDES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        [
            "axk1",
            "axk2",
            "deepseek_v2",
            "deepseek_v3",
            "deepseek_v32",
            "glm4_moe_lite",
            "glm_moe_dsa",
            "longcat_flash",
            "minicpm3",
            "youtu",
        ],
        ALL_HEADS,
    ),
    **dict.fromkeys(("qwen3_5_text", "qwen3_5_moe_text", "qwen3_next", "olmo_hybrid"), MIXED),
    **dict.fromkeys(("qwen4_exp", "qwen4_exp_text"), QWEN4),
    **dict.fromkeys(("gemma4_text", "gemma4_unified_text"), GEMMA4),
    "bailing_hybrid": ALL_HEADS
    | MIXED
    | {"num_experts_per_token": 2, "num_expert_group": 1, "linear_head_dim": 8, "linear_num_heads": 4},
    "bamba": {"attn_layer_indices": [1, 3]},
    "cohere_compass_text": {
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
            for kind in ("full_attention", "sliding_attention")
        }
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4},
        "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "dots3_note_text": ALL_HEADS
    | {
        "per_layer_config": {},
        "head_dim": 16,
        "layer_types": ["indexed_attention", "sliding_attention"] * 2,
        "index_topk": 8,
        "index_head_dim": 8,
        "index_n_heads": 4,
        "shared_experts_intermediate_size": 16,
    },
    "falcon": {"num_attention_heads": 4},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3": SMALL_VISION,
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": MAMBA_ATTENTION | {"shared_intermediate_size": 48},
    "jamba": {
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "use_mamba_kernels": False,
        "mamba_dt_rank": 4,
    },
    "kimi_linear": ALL_HEADS | MIXED,
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"head_dim": 16, "num_heads": 4},
    "mpt": {"n_layers": 4, "n_heads": 4, "d_model": 32},
    "prophetnet": {"num_encoder_layers": 2, "num_decoder_layers": 2},
    "reformer": {
        "axial_pos_embds": False,
        "num_buckets": 2,
        "attn_layers": ["local", "local"],
        "local_attn_chunk_length": 8,
    },
    "roc_bert": {
        "shape_embed_dim": 8,
        "pronunciation_embed_dim": 8,
        "shape_vocab_size": 32,
        "pronunciation_vocab_size": 32,
    },
    "xmod": {"default_language": "en_XX"},
    "xlstm": {"num_blocks": 4, "num_heads": 2, "hidden_size": 64, "qk_dim_factor": 1.0, "chunk_size": 8},
    "zamba2": {
        "num_key_value_heads": 4,
        "layers_block_type": ["mamba", "hybrid"] * 2,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "mamba_ngroups": 1,
        "n_mamba_heads": 8,
        "mamba_headdim": 8,
    },
    "zamba": {
        "layer_types": ["mamba", "hybrid"] * 2,
        "n_mamba_heads": 2,
        "mamba_dt_rank": 4,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
    },
    "zaya": {"num_experts_per_tok": 1},
}
# Names that a type derives, and does not take.
NOT_TAKEN = {
    "prophetnet": {"num_hidden_layers"},
    "xlnet": {"max_position_embeddings"},
    "falcon": {"head_dim"},
    "xlstm": {"v_head_dim", "qk_head_dim", "q_lora_rank", "head_dim"},
    "gemma4_assistant": {"hidden_size_per_layer_input"},
}
PARTS = ("text_config", "decoder")


def config(model_type: str) -> Any:
    """A small configuration of this type."""
    given = settings(model_type)
    return AutoConfig.for_model(given.pop("model_type"), **given)


def settings(model_type: str, known: Any = None) -> dict[str, Any]:
    """What is given to a configuration of this type, its parts included, so that the model is small."""
    known = AutoConfig.for_model(model_type) if known is None else known
    given = {"model_type": model_type}
    for name, value in SMALL.items():
        if name not in NOT_TAKEN.get(model_type, ()) and has(known, name):
            given[name] = value
    for part in PARTS:
        inner = getattr(known, part, None)
        if hasattr(inner, "model_type"):
            given[part] = settings(inner.model_type, inner)
    return given | BESIDES.get(model_type, {})


def has(known: Any, name: str) -> bool:
    """Whether a configuration takes this name; some refuse to say it for all layers at once."""
    try:
        return hasattr(known, name)
    except Exception:
        return name in known.__dict__ or name in type(known).__dataclass_fields__


def tiny(model_type: str) -> PreTrainedModel:
    """Ready to answer, on the CPU, with weights so large that its likeliest token is no near-tie."""
    torch.manual_seed(0)
    made = config(model_type)
    with torch.device("meta"):
        size = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(made).parameters())
    if size > LARGE:
        raise ValueError(f"{size} weights: not made small")
    model: PreTrainedModel = AutoModelForCausalLM.from_config(made, dtype=torch.float32)
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.25)
    return model.eval()
