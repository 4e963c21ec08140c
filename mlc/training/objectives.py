"""Consistency objectives: pure functions of prompt representations.

Shapes: B prompts x K languages x d dimensions. ``present`` (B, K) says which variants exist; a prompt may lack
some. All arithmetic is float32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def mlc_loss(representations: Tensor, present: Tensor, temperature: float) -> Tensor:
    """The Multi-Lingual Consistency loss as published (arXiv 2602.16660, section 3, and its code).

    Per prompt, the L2-normalised representations of its variants are stacked and their singular values s taken;
    the loss is ``-log softmax(s / (sg(s_1) * temperature))[0]``: lowest when all variants are collinear. The
    published formula omits the division by the largest singular value, the published code has it.

    The target is symmetric: it asks the variants to agree, not to be safe, and a majority of unsafe languages
    outvotes a safe source language. Nothing keeps different prompts apart: watch over-refusal.

    Args:
        representations: (B, K, d), any floating dtype.
        present: (B, K) bool; rows of missing variants are ignored. A prompt with one variant contributes zero.
        temperature: tau, > 0.

    Returns:
        Scalar float32, the mean over prompts.
    """
    z = F.normalize(representations.float(), dim=-1) * present[..., None]
    s = torch.linalg.svdvals(z)
    # Missing rows are zero rows, which add nothing but zero singular values, last in order.
    real = torch.arange(s.shape[-1], device=s.device) < present.sum(-1, keepdim=True)
    logits = (s / (s[:, :1].detach() * temperature)).masked_fill(~real, float("-inf"))
    return -F.log_softmax(logits, dim=-1)[:, 0].mean()


class Anchors(NamedTuple):
    """Where the base keeps harmful and benign prompts apart.

    ``axis`` (d,): the trusted languages' mean harmful minus mean benign representation, divided by its squared length,
    so that the two lie one apart along it. ``centres`` (K, d): each language's midpoint between its harmful and its
    benign mean. ``targets`` (P,): each prompt's mean projection over its trusted variants. All float32.
    """

    axis: Tensor
    centres: Tensor
    targets: Tensor


def projections(representations: Tensor, centres: Tensor, axis: Tensor) -> Tensor:
    """(B, K) float32: how far each variant lies towards the harmful side, about +1/2 or -1/2 in a trusted language."""
    return (representations.float() - centres) @ axis


def anchors(representations: Tensor, present: Tensor, harmful: Tensor, trusted: Tensor) -> Anchors:
    """The base's anchors from its representations of all training prompts.

    A refusal direction by difference in means (arXiv 2406.11717), which is parallel across languages
    (arXiv 2505.17306), averaged over the trusted ones.

    Args:
        representations: (P, K, d). present: (P, K) bool. harmful: (P,) bool. trusted: (K,) bool.

    Raises:
        ValueError: a language has no harmful or no benign variant.
    """
    h = representations.float()
    means = []
    for side in (harmful, ~harmful):
        chosen = present & side[:, None]
        counts = chosen.sum(0)
        if not counts.all():
            lacking = (counts == 0).nonzero()[:, 0].tolist()
            raise ValueError(f"languages number {lacking} have no {'harmful' if side is harmful else 'benign'} prompts")
        means.append((h * chosen[..., None]).sum(0) / counts[:, None])
    bad, good = means
    direction = (bad - good)[trusted].mean(0)
    axis, centres = direction / direction.square().sum(), (bad + good) / 2
    return Anchors(axis, centres, mean_over(projections(h, centres, axis), present & trusted))


def direction_loss(projection: Tensor, target: Tensor, present: Tensor, harmful: Tensor, hinge: float) -> Tensor:
    """Agreement along one direction only: every variant must reach a share of its prompt's trusted projection.

    With t the target and y = +1 for harmful, -1 for benign: ``4 * mean(relu(hinge * y * t - y * c)^2)``. Only what
    falls short is moved, and everything outside the direction is left alone. Needs each prompt's intent, no replies.

    Args:
        projection: (B, K) c, from :func:`projections` of the policy's representations.
        target: (B,) t, from :func:`anchors` of the base.
        present: (B, K) bool. harmful: (B,) bool. hinge: share of the target to reach, in (0, 1].

    Returns:
        Scalar float32, the mean over prompts of the mean over their variants.
    """
    y = torch.where(harmful, 1.0, -1.0)[:, None]
    short = F.relu(hinge * y * target[:, None] - y * projection).square()
    return 4 * mean_over(short, present).mean()


def mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of (..., K) ``values`` over the last axis where ``chosen`` is true; zero where nothing is chosen."""
    return (values * chosen).sum(-1) / chosen.sum(-1).clamp(min=1)


def refusal_openings(harmful: Tensor, benign: Tensor, source: int) -> Tensor:
    """How the base begins a refusal, per language: a difference in means again, of next-token probabilities.

    Even where a base complies nearly always it refuses now and then, or half-heartedly; what gains probability from
    benign to harmful prompts is how a refusal begins in that language. Gains of less than a tenth of the largest are
    noise. A language whose base shows no refusals (less than one in fifty) gets the source language's openings.

    Args:
        harmful, benign: (K, V) mean next-token probabilities over harmful, and benign, prompts. source: its index.

    Returns:
        (K, V) float32, each row a distribution.
    """
    gain = F.relu(harmful.float() - benign.float())
    gain = gain * (gain >= 0.1 * gain.amax(-1, keepdim=True))
    shown = gain.sum(-1, keepdim=True)
    openings = gain / shown.clamp(min=1e-9)
    return torch.where(shown >= 0.02, openings, openings[source])


def refusal_loss(logits: Tensor, openings: Tensor) -> Tensor:
    """KL(openings || policy) of the next token, mean over positions: begin as the language begins its refusals.

    Args:
        logits: (N, V) of the policy at harmful variants. openings: (N, V), of each variant's language.

    Returns:
        Scalar float32; zero for N = 0.
    """
    log_probs = logits.float().log_softmax(-1)
    if not len(logits):
        return log_probs.sum()
    return F.kl_div(log_probs, openings, reduction="batchmean")


def retain_loss(logits: Tensor, base_logits: Tensor) -> Tensor:
    """KL(base || policy) of the next token, mean over positions: stay as the base is where the base is right.

    Args:
        logits, base_logits: (N, V), any floating dtype.

    Returns:
        Scalar float32; zero for N = 0.
    """
    log_probs = logits.float().log_softmax(-1)
    if not len(logits):
        return log_probs.sum()
    return F.kl_div(log_probs, base_logits.float().log_softmax(-1), reduction="batchmean", log_target=True)
