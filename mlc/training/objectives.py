"""Consistency objectives: pure functions of prompt representations.

Shapes: B prompts x K languages x d dimensions. ``present`` (B, K) says which variants exist; a prompt may lack
some. All arithmetic is float32. Losses are means over prompts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def mlc_loss(representations: Tensor, present: Tensor, temperature: float) -> Tensor:
    """The Multi-Lingual Consistency loss as published (arXiv 2602.16660, section 3, and its code).

    Per prompt, the L2-normalised representations of its variants are stacked and their singular values s taken;
    the loss is ``-log softmax(s / (sg(s_1) * temperature))[0]``: lowest when all variants are collinear. The
    published formula omits the division by the largest singular value, the published code has it.

    The target is symmetric: it asks the variants to agree, not to be safe, and a majority of unsafe languages
    outvotes a safe source language.

    Args:
        representations: (B, K, d), any floating dtype.
        present: (B, K) bool; rows of missing variants are ignored. A prompt with one variant contributes zero.
        temperature: tau, > 0.

    Returns:
        Scalar float32.
    """
    z = F.normalize(representations.float(), dim=-1) * present[..., None]
    s = torch.linalg.svdvals(z)
    # Missing rows are zero rows, which add nothing but zero singular values, last in order.
    real = torch.arange(s.shape[-1], device=s.device) < present.sum(-1, keepdim=True)
    logits = (s / (s[:, :1].detach() * temperature)).masked_fill(~real, float("-inf"))
    return -F.log_softmax(logits, dim=-1)[:, 0].mean()


def mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of (..., K) ``values`` over the last axis where ``chosen`` is true; zero where nothing is chosen."""
    return (values * chosen).sum(-1) / chosen.sum(-1).clamp(min=1)


def intent_direction(representations: Tensor, present: Tensor, harmful: Tensor, trusted: Tensor) -> Tensor | None:
    """Difference in means, harmful minus benign, averaged over the trusted languages (arXiv 2406.11717).

    Args:
        representations: (B, K, d). present: (B, K) bool. harmful: (B,) bool. trusted: (K,) bool.

    Returns:
        (d,) float32, detached; None when a batch lacks harmful or benign prompts in every trusted language.
    """
    h = representations.detach().float()
    means = []
    for k in trusted.nonzero()[:, 0].tolist():
        bad, good = present[:, k] & harmful, present[:, k] & ~harmful
        if bad.any() and good.any():
            means.append(h[bad, k].mean(0) - h[good, k].mean(0))
    return torch.stack(means).mean(0) if means else None


def direction_loss(
    representations: Tensor, present: Tensor, harmful: Tensor, trusted: Tensor, direction: Tensor, hinge: float
) -> Tensor:
    """Agreement along one direction only: every variant must reach a share of its prompt's trusted projection.

    Representations are centred per language over the batch, projected on ``direction`` and scaled by its squared
    length, so that harmful and benign prompts of a trusted language lie about one apart. With t the mean
    projection of a prompt's trusted variants (detached) and y = +1 for harmful, -1 for benign:
    ``4 * mean(relu(hinge * y * t - y * c)^2)``. Only what falls short of its target is moved, everything outside
    the direction is left alone.

    Args:
        representations: (B, K, d). present: (B, K) bool. harmful: (B,) bool. trusted: (K,) bool.
        direction: (d,) from :func:`intent_direction`. hinge: share of the target to reach, in (0, 1].

    Returns:
        Scalar float32.
    """
    h = representations.float()
    there = present[..., None]
    centred = h - (h * there).sum(0, keepdim=True) / there.sum(0, keepdim=True).clamp(min=1)
    projection = centred @ (direction / direction.square().sum())
    target = mean_over(projection, present & trusted).detach()[:, None]
    y = torch.where(harmful, 1.0, -1.0)[:, None]
    short = F.relu(hinge * y * target - y * projection).square()
    return 4 * mean_over(short.flatten(), present.flatten())


def retain_loss(log_probs: Tensor, base_log_probs: Tensor) -> Tensor:
    """KL(base || policy) of next-token distributions, mean over positions.

    Args:
        log_probs: (N, V) of the policy. base_log_probs: (N, V) of the base, detached.

    Returns:
        Scalar; zero for N = 0.
    """
    if not len(log_probs):
        return log_probs.sum()
    return F.kl_div(log_probs, base_log_probs, reduction="batchmean", log_target=True)
