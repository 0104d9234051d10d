from __future__ import annotations

import pytest
import torch

from edc_ray.core.layers.norm_pool import TORCH_NORM_POOL
from edc_ray.kernels.cpu import statistics as module
from edc_ray.kernels.cpu.library import kernel_library
from edc_ray.kernels.cpu.statistics import CompiledNormPool, norm_pool_kernels_for
from tests.core.norm_pool_cases import EPSILON, SHAPES, inputs_of, made_by

CPU = torch.device("cpu")


@pytest.fixture
def kernels() -> CompiledNormPool:
    library = kernel_library("norm_pool")
    if isinstance(library, str):
        pytest.skip(library)
    return CompiledNormPool(library)


@pytest.mark.parametrize("away", [0.0, 100.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float32_is_as_near_to_float64_as_that_of_the_layers(
    kernels: CompiledNormPool, shape: tuple[int, ...], away: float
) -> None:
    exact = made_by(None, *(each.double() for each in inputs_of(shape, torch.float32, away=away)))
    eager = made_by(None, *inputs_of(shape, torch.float32, away=away))
    ours = made_by(kernels, *inputs_of(shape, torch.float32, away=away))
    for found, layers, expected in zip(ours, eager, exact, strict=True):
        allowed = 2 * (layers - expected).abs().max() + 1e-6 * expected.abs().max() + 1e-6
        assert (found - expected).abs().max() <= allowed


def test_other_numbers_are_left_to_torch(kernels: CompiledNormPool) -> None:
    inputs = inputs_of((2, 5, 4, 6), torch.float64)
    for found, expected in zip(made_by(kernels, *inputs), made_by(TORCH_NORM_POOL, *inputs), strict=True):
        assert torch.equal(found, expected)


def test_bits_depend_neither_on_threads_nor_on_other_images_nor_on_how_an_input_lies(
    kernels: CompiledNormPool,
) -> None:
    x, weight, bias, by_result = inputs_of((5, 40, 6, 6), torch.float32)
    threads, made = torch.get_num_threads(), []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            made.append(made_by(kernels, x, weight, bias, by_result))
    finally:
        torch.set_num_threads(threads)
    made.append(made_by(kernels, x.contiguous(memory_format=torch.channels_last), weight, bias, by_result))
    for others in made[1:]:
        assert all(torch.equal(*pair) for pair in zip(made[0], others, strict=True))
    alone = made_by(kernels, x[3:4], weight, bias, by_result[3:4])
    assert torch.equal(alone[0], made[0][0][3:4])
    assert torch.equal(alone[1], made[0][1][3:4])


def test_sparse_weights_are_read_as_they_are(kernels: CompiledNormPool) -> None:
    x, weight, bias, by_result = inputs_of((2, 9, 4, 4), torch.float32)
    made = []
    for w, b in ((weight, bias), (weight.repeat_interleave(2)[::2], bias.repeat_interleave(2)[::2])):
        result, kept = kernels.forward(x, w, b, EPSILON)
        made.append((result, *kernels.backward(x, kept, w, b, by_result)))
    assert all(torch.equal(*pair) for pair in zip(*made, strict=True))


def test_nan_stays_in_its_own_channel(kernels: CompiledNormPool) -> None:
    x, weight, bias, _ = inputs_of((2, 9, 4, 4), torch.float32)
    x[1, 8, 0, 0] = torch.nan
    result, _ = kernels.forward(x, weight, bias, EPSILON)
    assert result[1, 8].isnan().all()
    assert result.isnan().sum() == result[1, 8].numel()


def test_torchs_operations_are_taken_where_they_are_asked_for_or_there_is_no_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert norm_pool_kernels_for(torch.device("cuda")) is None
    with monkeypatch.context() as patch:
        patch.setenv("EDC_RAY_KERNELS", "torch")
        assert norm_pool_kernels_for(CPU) is TORCH_NORM_POOL
    module.compiled_kernels()  # a process keeps the first answer, which must not be that of this test
    monkeypatch.setattr(module, "kernel_library", lambda _: "no C++ compiler on PATH")
    assert norm_pool_kernels_for(CPU) is TORCH_NORM_POOL
