"""What a model makes of a prompt: its last prompt token's hidden state at one layer, and the next token's logits."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mlc.models.generation import padded
from mlc.models.inference import ALONE

PADDING = 0.1


class Variants(NamedTuple):
    """The variants of B prompts in K languages, N of which exist.

    ``ids`` and ``mask`` (N, T) int64, left-padded, prompt by prompt; ``present`` (B, K) bool with N true entries;
    ``harmful`` (B,) bool; ``row`` (B,) int64, each prompt's place in the training set.
    """

    ids: Tensor
    mask: Tensor
    present: Tensor
    harmful: Tensor
    row: Tensor


def collate_variants(
    variants: Sequence[Sequence[Sequence[int]]], harmful: Sequence[bool], row: Sequence[int], pad: int
) -> Variants:
    """Tensors of a batch; ``variants[b][k]`` are prompt b's token ids in language k, empty where it is missing."""
    ids, mask = padded([ids for prompt in variants for ids in prompt if ids], pad, "left")
    return Variants(
        ids,
        mask,
        torch.tensor([[bool(v) for v in prompt] for prompt in variants]),
        torch.tensor(harmful),
        torch.tensor(row),
    )


def causal(model: nn.Module) -> Any:
    """The causal language model beneath any adapter."""
    # An adapter by its method: importing peft takes as long as all the rest of a stage that has none.
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


def decoder(model: nn.Module) -> Any:
    """The decoder stack of a causal language model, beneath any adapter.

    Raises:
        ValueError: no module of the model has a list of all decoder layers.
    """
    inner = causal(model)
    given = inner.get_decoder()
    for stack in (given, getattr(given, "model", None), inner.base_model):  # some give the head, or the whole model
        if stack is not None and _layers(stack) is not None:
            return stack
    raise ValueError(f"{type(inner).__name__} has no list of its decoder layers")


def layers(stack: Any) -> nn.ModuleList:
    """A decoder's layers, whatever the architecture calls their list: ``layers``, ``h``, ``blocks``, ``block``."""
    found = _layers(stack)
    assert found is not None
    return found


def _layers(stack: Any) -> nn.ModuleList | None:
    config = getattr(stack, "config", None)
    depths = {getattr(config, name, None) for name in ("num_hidden_layers", "num_layers")}
    lists = (child for child in stack.children() if isinstance(child, nn.ModuleList))
    # Embeddings of its own for every layer (Gemma 3n, Gemma 4) are no layers, nor are XLM's loose attentions.
    return next((each for each in lists if len(each) in depths and _hidden_to_hidden(each[0])), None)


def _hidden_to_hidden(layer: nn.Module) -> bool:
    return not isinstance(layer, nn.Embedding) and len(list(layer.children())) > 1


def left_padded(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(N, T) with the padding moved to the left, so that the last column holds every prompt's last token."""
    order = mask.argsort(dim=-1, stable=True)
    return ids.gather(1, order), mask.gather(1, order)


def encode(model: nn.Module, ids: Tensor, mask: Tensor, layer: int) -> tuple[Tensor, Tensor]:
    """Runs prompts and returns what stands at their last token.

    A hook keeps the one layer's last position, and the vocabulary is computed for that position alone: no other
    layer's states and no further logits are held.

    Args:
        model: a causal language model, adapted or not, without a distributed wrapper.
        ids, mask: (N, T) int64, padded on whichever side.
        layer: index into ``hidden_states``: n is the n-th decoder layer's output before any norm, -1 the last's after
            the final norm. The last layer's own index means the same as -1, as it does there.

    Returns:
        Hidden states (N, d) and next-token logits (N, V), in the model's dtype.

    Raises:
        ValueError: the model has no such layer.
    """
    stack = decoder(model)
    blocks = layers(stack)
    depth = len(blocks)
    if layer not in (-1, *range(1, depth + 1)):
        raise ValueError(f"mlc_layer = {layer}: the model has layers 1 to {depth}, and -1 for the last")
    ids, mask = left_padded(ids, mask)
    inner = causal(model)
    if inner.config.model_type in ALONE and not bool(mask.all() and len(mask) == 1):
        rows = [row[None, -n:] for row, n in zip(ids, mask.sum(-1).tolist(), strict=True)]
        hidden, logits = zip(*(encode(model, row, torch.ones_like(row), layer) for row in rows), strict=True)
        return torch.cat(hidden), torch.cat(logits)
    places = {"position_ids": (mask.cumsum(-1) - 1).clamp(min=0), "logits_to_keep": 1}
    taken = inspect.signature(inner.forward).parameters
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        hidden = getattr(output, "last_hidden_state", output)
        kept.append((hidden[0] if isinstance(hidden, tuple | list) else hidden)[:, -1])

    hook = (stack if layer in (-1, depth) else blocks[layer - 1]).register_forward_hook(keep)
    try:
        output: Any = model(
            input_ids=ids,
            attention_mask=mask,
            use_cache=False,
            **{name: value for name, value in places.items() if name in taken},
        )
    finally:
        hook.remove()  # gradient checkpointing runs the layer again in the backward pass: nothing to keep then
    return kept[0], output.logits[:, -1]


def chunks(lengths: Sequence[int], tokens: int | None) -> Iterator[list[int]]:
    """Indices in chunks of similar length, longest first: under a tenth of padding each, at most ``tokens`` wide.

    Args:
        lengths: of the prompts. tokens: of a chunk, padding included; None for no limit. A longer prompt is alone.
    """
    chunk: list[int] = []
    filled = 0
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        width = lengths[chunk[0]] * (len(chunk) + 1) if chunk else 0
        if chunk and (filled + lengths[i] < (1 - PADDING) * width or (tokens is not None and width > tokens)):
            yield chunk
            chunk, filled = [], 0
        chunk.append(i)
        filled += lengths[i]
    if chunk:
        yield chunk


def encode_chunks(
    model: nn.Module, ids: Tensor, mask: Tensor, layer: int, tokens: int | None
) -> tuple[Tensor, Tensor, float]:
    """:func:`encode` in chunks of similar length, so that little padding is computed and little held.

    Where all prompts together have more than ``tokens`` tokens, no chunk's activations are kept: the backward pass
    runs one chunk at a time again (gradient caching), at the price of one more forward pass.

    Args:
        model, ids, mask, layer: as for :func:`encode`.
        tokens: of a chunk, padding included; None for no limit: everything is kept.

    Returns:
        Hidden states (N, d), logits (N, V), and the share of padding among the tokens that were computed.
    """
    lengths = mask.sum(-1).tolist()
    parts: list[tuple[Tensor, Tensor]] = []
    order: list[int] = []
    computed = 0
    ids, mask = left_padded(ids, mask)
    recompute = tokens is not None and sum(lengths) > tokens and torch.is_grad_enabled()
    for chunk in chunks(lengths, tokens):
        width = lengths[chunk[0]]
        computed += width * len(chunk)
        order += chunk
        inputs = (model, ids[chunk, -width:], mask[chunk, -width:], layer)
        parts.append(checkpoint(encode, *inputs, use_reentrant=False) if recompute else encode(*inputs))
    back = torch.tensor(order, device=ids.device).argsort()
    hidden, logits = (torch.cat(part)[back] for part in zip(*parts, strict=True))
    return hidden, logits, 1 - sum(lengths) / computed
