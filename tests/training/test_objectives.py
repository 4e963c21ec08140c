"""Objectives: parity with the authors' code, and the properties that users rely on or should be warned of."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mlc.training.objectives import (
    anchors,
    contrastive_loss,
    cosine_loss,
    direction_loss,
    mlc_loss,
    projections,
    refusal_loss,
    refusal_openings,
    relational_loss,
    retain_loss,
)

CASES = json.loads((Path(__file__).parent / "fixtures" / "mlc_reference_vectors.json").read_text())["cases"]


def everywhere(representations: Tensor) -> Tensor:
    return torch.ones(representations.shape[:2], dtype=torch.bool)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["kind"])
def test_value_and_gradients_are_the_authors(case: dict[str, Any]) -> None:
    hidden = torch.tensor(case["hidden_states"])
    mask = torch.tensor(case["attention_mask"])
    last = (mask.sum(-1) - 1)[..., None, None].expand(-1, -1, 1, hidden.shape[-1])
    h = hidden.gather(2, last)[:, :, 0].requires_grad_()
    weight, bias = (torch.tensor(case[f"head_{part}"]).requires_grad_() for part in ("weight", "bias"))
    loss = case["weight"] * mlc_loss(F.linear(h, weight, bias), everywhere(h), case["tau"])
    loss.backward()
    assert loss.item() == pytest.approx(case["weighted_loss"], abs=1e-6)
    for ours, theirs in ((h, "last_hidden"), (weight, "head_weight"), (bias, "head_bias")):
        torch.testing.assert_close(ours.grad, torch.tensor(case[f"grad_{theirs}"]), atol=2e-6, rtol=1e-4)


def test_range_at_the_papers_settings() -> None:
    collinear = torch.randn(1, 1, 32).expand(1, 10, 32) * torch.rand(1, 10, 1).add(0.1)
    orthogonal = torch.eye(32)[None, :10]
    assert mlc_loss(collinear, everywhere(collinear), 0.2).item() == pytest.approx(0.059, abs=1e-3)
    assert mlc_loss(orthogonal, everywhere(orthogonal), 0.2).item() == pytest.approx(math.log(10), abs=1e-5)


def test_identical_variants_and_a_single_language_have_finite_gradients() -> None:
    same = torch.randn(2, 1, 16).repeat(1, 6, 1).requires_grad_()
    mlc_loss(same, everywhere(same), 0.2).backward()
    assert same.grad is not None and same.grad.isfinite().all()
    alone = torch.randn(3, 1, 16, requires_grad=True)
    loss = mlc_loss(alone, everywhere(alone), 0.2)
    loss.backward()
    assert loss.item() == 0 and alone.grad is not None and not alone.grad.any()


def test_missing_variants_change_nothing() -> None:
    full = torch.randn(2, 4, 16)
    padded = torch.cat([full[:, :2], torch.randn(2, 3, 16), full[:, 2:]], 1).requires_grad_()
    present = torch.tensor([[True, True, False, False, False, True, True]] * 2)
    loss = mlc_loss(padded, present, 0.2)
    loss.backward()
    assert loss.item() == pytest.approx(mlc_loss(full, everywhere(full), 0.2).item(), abs=1e-6)
    assert padded.grad is not None and not padded.grad[~present].any()


def test_known_weakness_the_majority_outvotes_the_source() -> None:
    """The loss is symmetric: a step moves one safe source language further than seven unsafe ones that agree."""
    safe, unsafe = torch.eye(16)[0], torch.eye(16)[0] * 0.6 + torch.eye(16)[1] * 0.8
    variants = torch.stack([safe, *[unsafe] * 7])[None].requires_grad_()
    mlc_loss(variants, everywhere(variants), 0.2).backward()
    assert variants.grad is not None
    moved = variants.grad[0].norm(dim=-1)
    assert moved[0] > 3 * moved[1:].max()


def outvoted(angle: float) -> Tensor:
    """(1, 8, 16): seven identical variants, and a source at an angle (radians) to them."""
    source = math.cos(angle) * torch.eye(16)[0] + math.sin(angle) * torch.eye(16)[1]
    return torch.stack([source, *[torch.eye(16)[0]] * 7])[None].requires_grad_()


def test_an_anchored_source_is_not_moved() -> None:
    variants = outvoted(0.9)
    for loss in (
        mlc_loss(variants, everywhere(variants), 0.2, source=0),
        cosine_loss(variants, everywhere(variants), 0),
    ):
        variants.grad = None
        loss.backward()
        assert variants.grad is not None and not variants.grad[0, 0].any() and variants.grad[0, 1:].any()


def test_known_weakness_it_saturates_on_a_majority() -> None:
    """Seven of eight identical, and the eighth opposite in meaning: nearly all of the loss's range is used up."""
    split, same = outvoted(math.pi / 2), outvoted(0.0)
    worst = torch.eye(16)[None, :8]
    high, low, here = (mlc_loss(z, everywhere(z), 0.2).item() for z in (worst, same, split))
    assert (high - here) / (high - low) > 0.9


def test_known_weakness_an_orthogonal_outlier_gets_no_gradient() -> None:
    variants = outvoted(math.pi / 2)
    mlc_loss(variants, everywhere(variants), 0.2).backward()
    assert variants.grad is not None
    assert variants.grad[0, 0].abs().max() < 1e-6
    nearly = outvoted(math.pi / 2 - 0.3)
    cosine_loss(nearly, everywhere(nearly)).backward()
    assert nearly.grad is not None and nearly.grad[0, 0].norm() > 0.1  # the pairwise cosine does pull


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gram_eigenvalues_are_the_singular_values(dtype: torch.dtype) -> None:
    """Against the decomposition of the matrix itself, more languages than dimensions included."""
    torch.manual_seed(1)
    for shape in ((4, 10, 64), (3, 10, 4), (2, 2, 300)):
        h = torch.randn(shape).to(dtype)
        direct = h.float().requires_grad_()
        s = torch.linalg.svdvals(F.normalize(direct, dim=-1))
        expected = -F.log_softmax(s / (s[:, :1].detach() * 0.2), -1)[:, 0].mean()
        expected.backward()
        ours = h.float().requires_grad_()
        loss = mlc_loss(ours, everywhere(ours), 0.2)
        loss.backward()
        assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
        torch.testing.assert_close(ours.grad, direct.grad, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_representation_without_direction_is_refused_unless_it_is_missing(value: float) -> None:
    h = torch.randn(2, 3, 8)
    h[1, 2] = value
    present = everywhere(h)
    losses = (
        lambda: mlc_loss(h, present, 0.2),
        lambda: cosine_loss(h, present),
        lambda: relational_loss(h, present, 0),
        lambda: contrastive_loss(h, present, 0.2),
    )
    for loss in losses:
        with pytest.raises(ValueError, match=r"\[\[1, 2\]\]"):
            loss()
    present[1, 2] = False
    assert all(loss().isfinite() for loss in losses)


def test_cosine_of_collinear_orthogonal_and_opposite() -> None:
    line = torch.eye(4)[None, :1].repeat(2, 3, 1)
    right = torch.eye(4)[None, :3]
    opposite = torch.stack([torch.eye(4)[0], -torch.eye(4)[0]])[None]
    for source in (None, 0):
        assert cosine_loss(line * 3, everywhere(line), source).item() == pytest.approx(0, abs=1e-6)
        assert cosine_loss(right, everywhere(right), source).item() == pytest.approx(1)
        assert cosine_loss(opposite, everywhere(opposite), source).item() == pytest.approx(2)
    alone = torch.tensor([[True, False, False]] * 2)
    assert cosine_loss(line, alone).item() == cosine_loss(line, alone, 0).item() == 0


def test_relational_is_zero_for_a_rotation_that_the_source_prompts_do_not_see() -> None:
    """It asks for the source's similarities, not for the source's representation."""
    h = torch.zeros(2, 2, 6)
    h[:, 0, :2] = torch.eye(2)
    h[:, 1, :2] = torch.eye(2)
    assert relational_loss(h, everywhere(h), 0).item() == pytest.approx(0, abs=1e-6)
    h[:, 1] = h[:, 1].flip(0)  # each variant stands where the other prompt's should
    assert relational_loss(h, everywhere(h), 0).item() == pytest.approx(1)
    collapsed = torch.ones(2, 2, 6)
    collapsed[:, 0, :2] += 9 * torch.eye(2)
    assert relational_loss(collapsed, everywhere(collapsed), 0).item() > 0.01


def test_contrast_tells_prompts_apart_which_agreement_does_not() -> None:
    collapsed = torch.ones(3, 4, 8)
    apart = torch.eye(8)[:3, None].repeat(1, 4, 1)
    assert mlc_loss(collapsed, everywhere(collapsed), 0.2).item() == pytest.approx(
        mlc_loss(apart, everywhere(apart), 0.2).item(), abs=1e-6
    )
    assert contrastive_loss(collapsed, everywhere(collapsed), 0.2).item() == pytest.approx(math.log(3), abs=1e-5)
    assert contrastive_loss(apart, everywhere(apart), 0.2).item() < 0.05
    with pytest.raises(ValueError, match="at least two prompts"):
        contrastive_loss(apart[:1], everywhere(apart)[:1], 0.2)


def intents(n: int) -> Tensor:
    return torch.arange(n) % 2 == 0


def test_direction_is_zero_where_the_base_already_separates_and_ignores_everything_else() -> None:
    torch.manual_seed(0)
    harmful = intents(8)
    side = torch.where(harmful, 1.0, -1.0)[:, None, None]
    h = torch.zeros(8, 3, 16)
    h[..., :1] = side
    trusted = torch.tensor([True, False, False])
    a = anchors(h, everywhere(h), harmful, trusted)
    moved = torch.cat([h[..., :1], torch.randn(8, 3, 15)], -1)  # another direction altogether
    for representations in (h, moved):
        projection = projections(representations, a.centres, a.axis)
        assert direction_loss(projection, a.targets, everywhere(h), harmful, 0.8).item() == 0
    blind = h.clone()
    blind[:, 2] = 0  # a language that does not tell harmful from benign
    loss = direction_loss(projections(blind, a.centres, a.axis), a.targets, everywhere(h), harmful, 0.8)
    assert loss.item() == pytest.approx(4 * 0.4**2 / 3, rel=1e-4)


def test_direction_is_a_mean_over_prompts_whatever_the_batch() -> None:
    torch.manual_seed(0)
    h, harmful, trusted = torch.randn(8, 3, 16), intents(8), torch.tensor([True, True, False])
    present = torch.rand(8, 3) > 0.2
    present[:2] = True
    a = anchors(h, present, harmful, trusted)
    c = projections(torch.randn(8, 3, 16), a.centres, a.axis)

    def loss(rows: slice) -> Tensor:
        return direction_loss(c[rows], a.targets[rows], present[rows], harmful[rows], 0.8)

    torch.testing.assert_close(loss(slice(8)), (loss(slice(4)) + loss(slice(4, 8))) / 2)


def test_anchors_refuse_a_language_without_both_intents() -> None:
    h = torch.randn(4, 2, 8)
    present = everywhere(h)
    present[::2, 1] = False
    with pytest.raises(ValueError, match=r"\[1\] have no harmful"):
        anchors(h, present, intents(4), torch.tensor([True, False]))


def test_refusal_openings_are_what_gains_with_harm() -> None:
    benign = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.48, 0.52, 0.0], [0.25, 0.25, 0.25, 0.25]])
    harmful = torch.tensor([[0.1, 0.1, 0.6, 0.2], [0.0, 0.39, 0.41, 0.2], [0.25, 0.25, 0.25, 0.25]])
    openings = refusal_openings(harmful, benign, source=0)
    torch.testing.assert_close(openings[0], torch.tensor([0.0, 0.0, 0.75, 0.25]))
    torch.testing.assert_close(openings[1], torch.tensor([0.0, 0.0, 0.0, 1.0]))
    torch.testing.assert_close(openings[2], openings[0])  # never refuses: the source's


def test_divergences() -> None:
    torch.manual_seed(0)
    logits, other = torch.randn(4, 9), torch.randn(4, 9)
    where = torch.tensor([[True, False], [True, True], [False, False], [False, True]])
    kl = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=other), torch.distributions.Categorical(logits=logits)
    )
    expected = (kl[0] + (kl[1] + kl[2]) / 2 + kl[3]) / 4  # per prompt, then over all four
    p = other.softmax(-1)
    torch.testing.assert_close(refusal_loss(logits, p, where), expected)
    whole = p.topk(9)
    torch.testing.assert_close(retain_loss(logits, whole.indices, whole.values, where), expected)
    own = logits.softmax(-1).topk(9)
    assert retain_loss(logits, own.indices, own.values, where).item() == pytest.approx(0, abs=1e-6)
    few = p.topk(3)  # the others count as one token: less than the whole divergence, and never less than nothing
    assert 0 <= retain_loss(logits, few.indices, few.values, where) <= expected
    nowhere = torch.zeros(4, 2, dtype=torch.bool)
    assert retain_loss(logits[:0], few.indices[:0], few.values[:0], nowhere).item() == 0
    assert refusal_loss(logits[:0], p[:0], nowhere).item() == 0
