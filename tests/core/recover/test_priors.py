from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edc_ray.core.recover.priors import diversity_loss, mean_norm, total_variation

LABELS = torch.tensor([0, 2, 0, 2, 0])


def images(seed: int = 0, side: int = 34) -> Tensor:
    made = torch.randn(5, 2, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return made * 0.02


def test_flat_images_have_no_variation_and_its_gradient_is_finite() -> None:
    flat = torch.full((2, 3, 5, 6), 0.7, requires_grad=True)
    variation = total_variation(flat)
    assert variation == (0, 0)
    (gradient,) = torch.autograd.grad(variation.l1 + variation.l2, flat)
    assert torch.isfinite(gradient).all()


def test_variation_of_a_ramp_is_that_of_its_steps() -> None:
    """Steps of 1 downwards and none sideways: three of the four directions see 1 everywhere."""
    ramp = torch.arange(4.0).reshape(1, 1, 4, 1).expand(1, 1, 4, 6)
    variation = total_variation(ramp)
    assert variation.l1 == pytest.approx(3)
    assert variation.l2 == pytest.approx((3 * 6) ** 0.5 + 2 * (3 * 5) ** 0.5)


def test_mean_norm_is_the_mean_over_images() -> None:
    two = torch.stack([torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), 3.0)])
    assert mean_norm(two) == pytest.approx((2 + 6) / 2)


def test_gradients_are_those_of_finite_differences() -> None:
    small = images(side=6).requires_grad_()
    for term in (total_variation, mean_norm):
        assert torch.autograd.gradcheck(term, small, eps=1e-6, atol=1e-6)


def test_gradient_of_diversity_treats_the_softer_side_as_a_constant() -> None:
    x = images(side=32)[LABELS == 0].requires_grad_()
    (ours,) = torch.autograd.grad(diversity_loss(x, torch.zeros(3, dtype=torch.int64)), x)
    flat = x.flatten(1)
    values, vectors = torch.linalg.eigh(flat @ flat.T)
    # d KL / d l = softmax(l) - softmax(l / t);  d l_i / d x = 2 v_i v_i^T x
    slope = values.softmax(0) - (values / 4).softmax(0)
    expected = 2 * vectors @ torch.diag(slope) @ vectors.T @ flat
    torch.testing.assert_close(ours.flatten(1), expected.detach())


def test_diversity_is_zero_for_single_images_and_least_where_directions_are_equal() -> None:
    x = images()
    assert diversity_loss(x, torch.arange(5)) == 0
    alike = x[:1].expand(3, -1, -1, -1) * 3
    apart = torch.zeros(3, 2, 32, 32)
    for number in range(3):
        apart[number, :, number * 10 : number * 10 + 10] = 0.05
    same = torch.zeros(3, dtype=torch.int64)
    assert diversity_loss(apart, same) < 1e-5 < diversity_loss(alike, same)


def test_classes_add_up_and_their_order_plays_no_part() -> None:
    x = images()
    parts = [diversity_loss(x[label == LABELS], LABELS[label == LABELS]) for label in (0, 2)]
    torch.testing.assert_close(diversity_loss(x, LABELS), sum(parts, torch.zeros(())).to(x))
    order = torch.tensor([4, 2, 0, 1, 3])
    torch.testing.assert_close(diversity_loss(x[order], LABELS[order]), diversity_loss(x, LABELS))
