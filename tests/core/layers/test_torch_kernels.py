from __future__ import annotations

import pytest
import torch

from edc_ray.core.layers import torch_kernels
from edc_ray.core.layers.measured_input import measure, split_quantities
from edc_ray.core.layers.torch_kernels import TORCH_KERNELS
from tests.core.layer_cases import SHAPES, Case, assert_equals_plain_formulas, found, random_input


@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("patch_side", [None, 4, 16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_statistics_and_gradient_are_those_of_plain_formulas(
    shape: tuple[int, ...], patch_side: int | None, mean: float
) -> None:
    x = random_input(shape, mean)
    for upstream in (None, random_input(shape, seed=1)):
        assert_equals_plain_formulas(Case(x, patch_side, upstream), TORCH_KERNELS)


def test_parts_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(random_input((3, 5, 7, 9)), 4, random_input((3, 5, 7, 9), seed=1))
    for size in (1, 64, 200):
        monkeypatch.setattr(torch_kernels, "_PART_ON_A_CPU", size)
        assert_equals_plain_formulas(case, TORCH_KERNELS)


@pytest.mark.parametrize("patch_side", [None, 4])
def test_other_layouts_of_the_input_and_of_its_gradient_count_the_same(patch_side: int | None) -> None:
    x, upstream = random_input((2, 5, 7, 6)), random_input((2, 5, 7, 6), seed=1)
    last = x.contiguous(memory_format=torch.channels_last)
    wider = random_input((2, 5, 7, 12))[..., ::2]
    for one in (last, wider):
        for other in (upstream, upstream.contiguous(memory_format=torch.channels_last)):
            assert_equals_plain_formulas(Case(one, patch_side, other), TORCH_KERNELS)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_activations_have_statistics_in_float32(dtype: torch.dtype) -> None:
    x = random_input((3, 5, 7, 9)).to(dtype)
    exact = Case(x.float(), 4, None)
    quantities, gradient = found(Case(x, 4, None), TORCH_KERNELS)
    other_quantities, other_gradient = found(exact, TORCH_KERNELS)
    for one, other in zip(quantities, other_quantities, strict=True):
        assert torch.equal(one, other)
    assert gradient.dtype == dtype
    torch.testing.assert_close(gradient, other_gradient.to(dtype))


@pytest.mark.parametrize("patch_side", [None, 3])
@pytest.mark.parametrize("size", [(1, 1), (3, 6), (4, 2)])
def test_gradcheck_of_the_statistics(size: tuple[int, int], patch_side: int | None) -> None:
    x = random_input((2, 2, *size)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: measure(x, patch_side, TORCH_KERNELS)[1], x)


def test_a_nan_shows_in_the_statistics_it_belongs_to() -> None:
    x = random_input((2, 3, 8, 8))
    x[1, 2, 7, 7] = float("nan")
    mean, variance, patch_mean, patch_variance = split_quantities(TORCH_KERNELS.statistics(x, 4), 3)
    for each in (mean, variance):
        assert each.isnan().tolist() == [False, False, True]
    for each in (patch_mean, patch_variance):
        assert each.isnan().tolist()[-1]
