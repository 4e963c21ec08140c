"""Consistency objectives: pure functions of prompt representations.

Shapes: B prompts x K languages x d dimensions. ``present`` (B, K) says which variants exist; a prompt may lack
some. All arithmetic is float32.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


def normalised(representations: Tensor, present: Tensor) -> Tensor:
    """(B, K, d) float32 of unit length, zero where a variant is missing.

    Raises:
        ValueError: a variant that is present has a representation of zero length, or one that is not finite.
    """
    h = representations.float().masked_fill(~present[..., None], 0)
    length = h.norm(dim=-1, keepdim=True)
    bad = present & ~((length[..., 0] > 0) & length[..., 0].isfinite())
    if bad.any():
        raise ValueError(
            f"the representations of {bad.nonzero().tolist()} (prompt, language) are zero or not finite: they have no "
            "direction to agree on. Has the training diverged, or the projection collapsed?"
        )
    unit: Tensor = h / length.masked_fill(~present[..., None], 1)
    return unit


def held(z: Tensor, source: int | None) -> Tensor:
    """(B, K, d) ``z`` with the source language's row detached, so that the others move to it; all of it for None."""
    if source is None:
        return z
    return torch.cat([z[:, :source], z[:, source : source + 1].detach(), z[:, source + 1 :]], 1)


def mlc_loss(representations: Tensor, present: Tensor, temperature: float, source: int | None = None) -> Tensor:
    """The Multi-Lingual Consistency loss as published (arXiv 2602.16660, section 3, and its code).

    Per prompt, the L2-normalised representations of its variants are stacked and their singular values s taken;
    the loss is ``-log softmax(s / (sg(s_1) * temperature))[0]``: lowest when all variants are collinear. The
    published formula omits the division by the largest singular value, the published code has it.

    The singular values come from the K x K Gram matrix, in float64, where its eigenvalues' roots are as exact as a
    float32 decomposition of the K x d matrix and several times cheaper. Those below 1e-6 are zero, with zero gradient
    (a subgradient), so that identical variants, the target state, have a finite one.

    Known weaknesses, each shown by a test:
        - The target is symmetric: it asks the variants to agree, not to be safe, and a majority of unsafe languages
          outvotes a safe source language. ``source`` holds that one still.
        - It saturates on a majority: seven of eight variants identical have used up nearly all of its range, and
          little pulls at the eighth.
        - A variant orthogonal to all others gets no gradient at all towards them.
        - Nothing keeps different prompts apart: watch over-refusal, and see :func:`contrastive_loss`.

    Args:
        representations: (B, K, d), any floating dtype.
        present: (B, K) bool; rows of missing variants are ignored. A prompt with one variant contributes zero.
        temperature: tau, > 0.
        source: index of a language whose representation is detached; None, as published, for none.

    Returns:
        Scalar float32, the mean over prompts.

    Raises:
        ValueError: a representation is zero or not finite.
    """
    z = held(normalised(representations, present), source).double()
    squared = torch.linalg.eigvalsh(z @ z.mT).flip(-1)[:, : z.shape[-1]]  # of K eigenvalues at most d are not zero
    positive = squared > 1e-12
    s = squared.masked_fill(~positive, 1).sqrt() * positive
    # Missing rows are zero rows, which add nothing but zero singular values, last in order.
    real = torch.arange(s.shape[-1], device=s.device) < present.sum(-1, keepdim=True)
    logits = (s / (s[:, :1].detach() * temperature)).masked_fill(~real, float("-inf"))
    return -F.log_softmax(logits, dim=-1)[:, 0].mean().float()


def cosine_loss(representations: Tensor, present: Tensor, source: int | None = None) -> Tensor:
    """One minus the cosine: between all pairs of a prompt's variants, or from each to a detached source language.

    Args:
        representations: (B, K, d), any floating dtype. present: (B, K) bool.
        source: index of the language to agree with; None for all pairs. A prompt without it contributes zero.

    Returns:
        Scalar float32, the mean over prompts of the mean over their pairs; zero for a prompt with one variant.

    Raises:
        ValueError: a representation is zero or not finite.
    """
    z = held(normalised(representations, present), source)
    if source is None:
        pairs = present[:, :, None] & present[:, None]
        pairs = pairs & ~torch.eye(z.shape[1], dtype=torch.bool, device=z.device)
        return mean_over((1 - z @ z.mT).flatten(1), pairs.flatten(1)).mean()
    return mean_over(1 - (z * z[:, source : source + 1]).sum(-1), _others(present, source)).mean()


def _others(present: Tensor, source: int) -> Tensor:
    """(B, K) bool: the variants beside the source language's, of prompts that have one in it."""
    return present & present[:, source : source + 1] & (torch.arange(present.shape[1], device=present.device) != source)


def relational_loss(representations: Tensor, present: Tensor, source: int) -> Tensor:
    """A variant's similarities to the batch's source-language prompts equal the source's own, which are detached.

    Keeps different prompts as far apart as the source language has them, and needs no intent labels. Its value
    depends on which prompts are together in a batch.

    Args:
        representations: (B, K, d), any floating dtype. present: (B, K) bool. source: index of the source language.

    Returns:
        Scalar float32: squared difference, mean over the batch's sources, then variants, then prompts.

    Raises:
        ValueError: a representation is zero or not finite.
    """
    z = normalised(representations, present)
    sources = z[present[:, source], source].detach()  # (S, d)
    short = (z @ sources.mT - (z[:, source].detach() @ sources.mT)[:, None]).square().mean(-1)
    return mean_over(short, _others(present, source)).mean()


def contrastive_loss(representations: Tensor, present: Tensor, temperature: float) -> Tensor:
    """Tells the batch's prompts apart: each variant should be nearest to its own prompt's consensus.

    The remedy against collapse of the method that MLC grew from (PMRL, arXiv 2507.17343), to be added to any
    agreement objective. A prompt's consensus is the normalised mean of its variants, which is the leading singular
    vector once they agree and, unlike that, has a stable gradient. Other prompts are the negatives; prompts that mean
    nearly the same are pushed apart as well.

    Args:
        representations: (B, K, d), any floating dtype. present: (B, K) bool. temperature: > 0.

    Returns:
        Scalar float32, cross-entropy over the B prompts: mean over variants, then prompts.

    Raises:
        ValueError: fewer than two prompts (there are no negatives), or a representation is zero or not finite.
    """
    if len(representations) < 2:
        raise ValueError("the contrastive term needs at least two prompts in a batch: the others are its negatives")
    z = normalised(representations, present)
    logits = z @ F.normalize(z.sum(1), dim=-1).mT / temperature  # (B, K, B)
    own = logits.log_softmax(-1).diagonal(dim1=0, dim2=2).mT  # (B, K): each variant's own prompt
    return mean_over(-own, present).mean()


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
    total = gain.sum(-1, keepdim=True)
    openings = gain / total.clamp(min=1e-9)
    return torch.where(total >= 0.02, openings, openings[source])


def refusal_loss(logits: Tensor, openings: Tensor, where: Tensor) -> Tensor:
    """KL(openings || policy) of the next token: begin as the language begins its refusals.

    Args:
        logits: (N, V) of the policy at harmful variants. openings: (N, V), of each variant's language.
        where: (B, K) bool with N true entries, the variants' places, prompt by prompt.

    Returns:
        Scalar float32: mean over a prompt's variants, then over all B prompts, zero for a prompt that has none, so
        that a batch may be split in any way.
    """
    divergence = F.kl_div(logits.float().log_softmax(-1), openings, reduction="none").sum(-1)
    return _spread(divergence, where)


def retain_loss(logits: Tensor, tokens: Tensor, base_probabilities: Tensor, where: Tensor) -> Tensor:
    """KL(base || policy) of the next token: stay as the base is where the base is right.

    The base's distribution is given by its k likeliest tokens, and all others count as one: a lower bound of the whole
    divergence, equal to it for k = V, and within the base's remaining probability where that is small.

    Args:
        logits: (N, V) of the policy. tokens: (N, k) int, the base's likeliest. base_probabilities: (N, k).
        where: (B, K) bool with N true entries, as in :func:`refusal_loss`.

    Returns:
        Scalar float32: mean over a prompt's variants, then over all B prompts.
    """
    log_q = logits.float().log_softmax(-1).gather(-1, tokens.long())
    p = base_probabilities.float()
    divergence = (torch.xlogy(p, p) - p * log_q).sum(-1)
    if tokens.shape[-1] < logits.shape[-1]:
        rest_p = (1 - p.sum(-1)).clamp(min=0)
        rest_q = (1 - log_q.exp().sum(-1)).clamp(min=1e-9)
        divergence = divergence + torch.xlogy(rest_p, rest_p) - rest_p * rest_q.log()
    return _spread(divergence, where)


def _spread(values: Tensor, where: Tensor) -> Tensor:
    placed = values.new_zeros(where.shape).masked_scatter(where, values)
    return mean_over(placed, where).mean()
