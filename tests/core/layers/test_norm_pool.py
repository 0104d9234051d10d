from __future__ import annotations

import pytest
import torch

from edc_ray.core.layers.norm_pool import TORCH_NORM_POOL, norm_relu_pool
from tests.core.norm_pool_cases import EPSILON, SHAPES, inputs_of, made_by


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_result_and_gradients_equal_those_of_the_layers(shape: tuple[int, ...]) -> None:
    inputs = inputs_of(shape, torch.float64)
    for found, expected in zip(made_by(TORCH_NORM_POOL, *inputs), made_by(None, *inputs), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


def test_gradients_are_those_of_finite_differences() -> None:
    *inputs, _ = inputs_of((2, 3, 5, 4), torch.float64)
    leaves = [each.requires_grad_() for each in inputs]
    assert torch.autograd.gradcheck(
        lambda x, weight, bias: norm_relu_pool(x, weight, bias, EPSILON, TORCH_NORM_POOL), leaves
    )


def test_pixels_one_behind_the_other_make_the_same() -> None:
    x, *others = inputs_of((2, 4, 6, 6), torch.float32)
    pixels = x.contiguous(memory_format=torch.channels_last)
    for found, expected in zip(
        made_by(TORCH_NORM_POOL, pixels, *others), made_by(TORCH_NORM_POOL, x, *others), strict=True
    ):
        assert torch.equal(found, expected)
