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
    direction_loss,
    mlc_loss,
    projections,
    refusal_loss,
    refusal_openings,
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
    assert retain_loss(logits, logits).item() == pytest.approx(0, abs=1e-6)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=other), torch.distributions.Categorical(logits=logits)
    ).mean()
    torch.testing.assert_close(retain_loss(logits, other), expected)
    torch.testing.assert_close(refusal_loss(logits, other.softmax(-1)), expected)
    assert retain_loss(logits[:0], other[:0]).item() == refusal_loss(logits[:0], other[:0]).item() == 0
