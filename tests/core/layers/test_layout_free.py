"""Statistics and gradients of whole maps, however they lie in memory."""

from __future__ import annotations

import pytest
import torch

from edc_ray.core.layers.layout_free import LayoutFreeKernels, layer_moments
from edc_ray.core.layers.measured_input import Gradients
from edc_ray.core.layers.tile_weights import tile_weights
from tests.core.layer_cases import SHAPES, Case, assert_equals_plain_formulas, expected, found, random_input

KERNELS = LayoutFreeKernels()
LAST = torch.channels_last


@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("patch_side", [None, 4, 16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_statistics_and_gradient_are_those_of_plain_formulas(
    shape: tuple[int, ...], patch_side: int | None, mean: float
) -> None:
    x = random_input(shape, mean).contiguous(memory_format=LAST)
    for upstream in (None, random_input(shape, seed=1)):
        assert_equals_plain_formulas(Case(x, patch_side, upstream), KERNELS)


@pytest.mark.parametrize("patch_side", [None, 4, 6])
def test_the_gradient_by_torchs_own_rules_is_the_written_one(patch_side: int | None) -> None:
    case = Case(random_input((2, 3, 10, 7)).double(), patch_side, None)
    weights = None if patch_side is None else tile_weights(10, 7, patch_side, case.x.device, torch.float64)
    x = case.x.requires_grad_()
    moments = layer_moments(x, weights)
    exact, _ = expected(case)
    factors = [torch.linspace(1, 2, len(each)).double() for each in moments]
    for one, other in zip(moments, exact, strict=True):
        torch.testing.assert_close(one, other)
    (by_torch,) = torch.autograd.grad(
        [each @ factor for each, factor in zip(moments, factors, strict=True)], x
    )
    measured = KERNELS.statistics(x, patch_side)
    written = KERNELS.add_gradient(x, patch_side, measured, Gradients(factors, None))
    torch.testing.assert_close(written, by_torch)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_activations_have_statistics_in_float32(dtype: torch.dtype) -> None:
    x = random_input((3, 5, 7, 9)).to(dtype).contiguous(memory_format=LAST)
    quantities, gradient = found(Case(x, 4, None), KERNELS)
    exact, exact_gradient = found(Case(x.float(), 4, None), KERNELS)
    for one, other in zip(quantities, exact, strict=True):
        assert torch.equal(one, other)
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient, exact_gradient.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_is_rearranged_and_only_an_owned_gradient_is_written_into(dtype: torch.dtype) -> None:
    x = random_input((2, 5, 7, 6)).to(dtype).contiguous(memory_format=LAST)
    measured, by = KERNELS.statistics(x, 4), [torch.ones(5), None, None, None]
    for in_place in (False, True):
        upstream = torch.ones_like(x)
        result = KERNELS.add_gradient(x, 4, measured, Gradients(by, upstream, in_place))
        assert result.is_contiguous(memory_format=LAST)
        assert result.dtype == dtype
        if not in_place:
            assert torch.equal(upstream, torch.ones_like(x))
        torch.testing.assert_close(
            result.float(), torch.full_like(result, 1 + 1 / 84).float(), rtol=0, atol=0.01
        )
