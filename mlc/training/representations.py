"""What a model makes of a prompt: its last prompt token's hidden state at one layer, and the next token's logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from torch import Tensor, nn

from mlc.evaluation.generation import padded


class Variants(NamedTuple):
    """The variants of B prompts in K languages, N of which exist.

    ``ids`` and ``mask`` (N, T) int64, left-padded, prompt by prompt; ``present`` (B, K) bool with N true entries;
    ``harmful`` (B,) bool; ``target`` (B,) float32, the objective's target per prompt.
    """

    ids: Tensor
    mask: Tensor
    present: Tensor
    harmful: Tensor
    target: Tensor


def collate_variants(
    variants: Sequence[Sequence[Sequence[int]]], harmful: Sequence[bool], target: Sequence[float], pad: int
) -> Variants:
    """Tensors of a batch; ``variants[b][k]`` are prompt b's token ids in language k, empty where it is missing."""
    ids, mask = padded([ids for row in variants for ids in row if ids], pad, "left")
    return Variants(
        ids,
        mask,
        torch.tensor([[bool(v) for v in row] for row in variants]),
        torch.tensor(harmful),
        torch.tensor(target),
    )


def decoder(model: nn.Module) -> Any:
    """The decoder stack of a causal language model, beneath any adapter."""
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    return inner.get_decoder()  # type: ignore[operator]


def encode(model: nn.Module, unwrapped: nn.Module, ids: Tensor, mask: Tensor, layer: int) -> tuple[Tensor, Tensor]:
    """Runs prompts and returns what stands at their last token.

    Goes through ``model`` as a whole, wrapped as it may be, so that distributed training sees the forward; a hook keeps
    the one layer's last position, and the vocabulary is computed for that position alone.

    Args:
        model: what to call. unwrapped: the same without wrappers, to find its layers.
        ids, mask: (N, T) int64, left-padded.
        layer: index into ``hidden_states``; -1 is the last, after the final norm.

    Returns:
        Hidden states (N, d) and next-token logits (N, V), in the model's dtype.

    Raises:
        ValueError: the model has no such layer.
    """
    stack = decoder(unwrapped)
    depth = len(stack.layers)
    if layer not in (-1, *range(1, depth + 1)):
        raise ValueError(f"mlc_layer = {layer}: the model has layers 1 to {depth}, and -1 for the last")
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        hidden = getattr(output, "last_hidden_state", output)
        kept.append((hidden[0] if isinstance(hidden, tuple) else hidden)[:, -1])

    hook = (stack if layer in (-1, depth) else stack.layers[layer - 1]).register_forward_hook(keep)
    try:
        logits: Tensor = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
            use_cache=False,
            logits_to_keep=1,
        ).logits[:, -1]
    finally:
        hook.remove()  # gradient checkpointing runs the layer again in the backward pass: nothing to keep then
    return kept[0], logits
