from __future__ import annotations

from itertools import product

import pytest
import torch

from edc_ray.core.torch_kernels import TORCH_KERNELS
from edc_ray.errors import ConfigError
from edc_ray.kernels import compiled
from edc_ray.kernels.compiled import CompiledKernels, compiled_kernels, kernels_for
from tests.core.layer_cases import SHAPES, Case, assert_equals_plain_formulas, found, random_input

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def kernels() -> CompiledKernels:
    answer = compiled_kernels()
    if isinstance(answer, str):
        pytest.skip(answer)
    return answer


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_statistics_and_gradient_are_those_of_plain_formulas(
    kernels: CompiledKernels, shape: tuple[int, ...], mean: float, layout: torch.memory_format
) -> None:
    x = random_input(shape, mean).contiguous(memory_format=layout)
    upstream = random_input(shape, seed=1)
    for given, patch_side in product((None, upstream), (None, 4, 16)):
        assert_equals_plain_formulas(Case(x, patch_side, given), kernels, owns_gradient=patch_side == 4)


def test_many_planes_are_flushed_to_wide_sums_in_time(kernels: CompiledKernels) -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        x = random_input((5, 150, 9, 70), mean=10.0).contiguous(memory_format=layout)
        assert_equals_plain_formulas(Case(x, 16, x.flip(0)), kernels)


def test_sparse_inputs_are_read_as_they_are(kernels: CompiledKernels) -> None:
    x, upstream = random_input((2, 6, 14, 28))[:, ::2, :, ::2], random_input((2, 3, 14, 28))[..., ::2]
    assert_equals_plain_formulas(Case(x, 4, upstream), kernels, owns_gradient=True)
    last = x.contiguous(memory_format=torch.channels_last)
    assert_equals_plain_formulas(Case(last, 4, upstream), kernels, owns_gradient=True)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_the_number_of_threads_changes_no_bit(kernels: CompiledKernels, layout: torch.memory_format) -> None:
    x = random_input((7, 13, 30, 30)).contiguous(memory_format=layout)
    before, answers = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            quantities, gradient = found(Case(x, 16, x.clone()), kernels)
            answers.append([*(each.detach() for each in quantities), gradient])
    finally:
        torch.set_num_threads(before)
    for answer in answers[1:]:
        assert all(torch.equal(one, other) for one, other in zip(answer, answers[0], strict=True))


def test_other_types_are_left_to_torch(kernels: CompiledKernels) -> None:
    for dtype in (torch.float64, torch.bfloat16):
        x = random_input((2, 3, 8, 8)).to(dtype)
        assert torch.equal(kernels.statistics(x, 4), TORCH_KERNELS.statistics(x, 4))


def test_the_variable_chooses(kernels: CompiledKernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(compiled.CHOICE_VARIABLE, raising=False)
    assert kernels_for(CPU) is kernels
    assert kernels_for(torch.device("cuda")) is TORCH_KERNELS
    monkeypatch.setenv(compiled.CHOICE_VARIABLE, "torch")
    assert kernels_for(CPU) is TORCH_KERNELS
    monkeypatch.setenv(compiled.CHOICE_VARIABLE, "fast")
    with pytest.raises(ConfigError, match=r"(?s)EDC_RAY_KERNELS names no kernels.*'fast'"):
        kernels_for(CPU)


def test_without_a_compiler_torch_computes_after_one_warning_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled, "compiled_kernels", lambda: "no C++ compiler on PATH, says this test")
    monkeypatch.delenv(compiled.CHOICE_VARIABLE, raising=False)
    with pytest.warns(UserWarning, match="no C\\+\\+ compiler on PATH, says this test"):
        assert kernels_for(CPU) is TORCH_KERNELS
    assert kernels_for(CPU) is TORCH_KERNELS
    monkeypatch.setenv(compiled.CHOICE_VARIABLE, "compiled")
    with pytest.raises(ConfigError, match="cannot be compiled here"):
        kernels_for(CPU)
