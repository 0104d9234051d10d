"""The scale of a gradient in 16 bits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edc_ray.core.recover.gradient_scale import FIRST_SCALE, first_scale, scaled_gradient


def _through_half(pixels: Tensor, factor: float) -> Tensor:
    """A loss whose gradient by a pixel is `factor`, and goes through float16."""
    return (pixels.half() * 1).float().sum() * factor


def test_a_gradient_too_small_for_sixteen_bits_survives() -> None:
    pixels = torch.ones(3, requires_grad=True)
    (lost,) = torch.autograd.grad(_through_half(pixels, 2.0**-26), pixels)
    gradient, _ = scaled_gradient(_through_half(pixels, 2.0**-26), pixels, first_scale(pixels))
    assert torch.equal(lost, torch.zeros(3))
    assert torch.equal(gradient, torch.full((3,), 2.0**-26))


def test_an_overflow_counts_as_zero_and_halves_the_scale_until_it_fits() -> None:
    pixels, scale = torch.ones(3, requires_grad=True), first_scale(torch.ones(3))
    found = []
    for _ in range(4):
        gradient, scale = scaled_gradient(_through_half(pixels, 4.0), pixels, scale)
        found.append((gradient.tolist(), float(scale[0])))
    halved = [FIRST_SCALE / 2**times for times in (1, 2, 3)]
    assert found == [*(([0.0] * 3, one) for one in halved), ([4.0] * 3, halved[-1])]


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), 1e6])
def test_what_no_scale_can_mend_is_given_as_it_is(factor: float) -> None:
    pixels, scale = torch.ones(3, requires_grad=True), torch.tensor([1.0, 5.0])
    gradient, following = scaled_gradient(_through_half(pixels, factor), pixels, scale)
    assert not gradient.isfinite().any()
    assert following.tolist() == [1.0, 0.0]


def test_the_scale_doubles_after_two_hundred_calm_iterations_and_has_an_end() -> None:
    pixels, scale = torch.ones(3, requires_grad=True), torch.tensor([8.0, 0.0])
    scales = []
    for _ in range(400):
        _, scale = scaled_gradient(_through_half(pixels, 1.0), pixels, scale)
        scales.append(float(scale[0]))
    assert scales == [8.0] * 199 + [16.0] * 200 + [32.0]
    highest = torch.tensor([2.0**24, 199.0])
    assert scaled_gradient(pixels.sum(), pixels, highest)[1].tolist() == [2.0**24, 0.0]
