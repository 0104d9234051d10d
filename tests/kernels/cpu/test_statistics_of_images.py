from __future__ import annotations

import pytest
import torch

from edc_ray.core.layers.image_statistics import ImageStatistics, image_statistics
from edc_ray.kernels.cpu import statistics as compiled
from edc_ray.kernels.cpu.statistics import compiled_kernels, image_statistics_for
from tests.core.layer_cases import SHAPES, random_input
from tests.core.layers.test_image_statistics import assert_equal_plain_formulas

CPU = torch.device("cpu")
LAYOUTS = (torch.contiguous_format, torch.channels_last)


@pytest.fixture(scope="module")
def kernel() -> ImageStatistics:
    kernels = compiled_kernels()
    if isinstance(kernels, str):
        pytest.skip(kernels)
    return kernels.image_statistics


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("shape", [*SHAPES, (2, 150, 9, 70)], ids=str)
def test_statistics_of_each_image_are_those_of_plain_formulas(
    kernel: ImageStatistics, shape: tuple[int, ...], mean: float, layout: torch.memory_format
) -> None:
    x = random_input(shape, mean).contiguous(memory_format=layout)
    for patch_side in (None, 4, 16):
        assert_equal_plain_formulas(kernel, x, patch_side)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_neither_threads_nor_other_images_change_a_bit(
    kernel: ImageStatistics, layout: torch.memory_format
) -> None:
    x = random_input((5, 13, 30, 30)).contiguous(memory_format=layout)
    before, answers = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            answers.append(kernel(x, 16).quantities)
    finally:
        torch.set_num_threads(before)
    answers.append(kernel(x[:2], 16).quantities)
    for answer in answers[1:]:
        assert all(torch.equal(one, other[: len(one)]) for one, other in zip(answer, answers[0], strict=True))


def test_what_the_library_does_not_take_is_left_to_torch(kernel: ImageStatistics) -> None:
    x = random_input((2, 3, 8, 8)).double()
    pairs = zip(kernel(x, 4).quantities, image_statistics(x, 4).quantities, strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_maps_of_sixteen_bits_count_as_the_same_numbers_in_float32(
    kernel: ImageStatistics, dtype: torch.dtype
) -> None:
    x = random_input((2, 3, 8, 8)).to(dtype)
    pairs = zip(kernel(x, 4).quantities, kernel(x.float(), 4).quantities, strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_sparse_inputs_are_read_as_they_are(kernel: ImageStatistics) -> None:
    assert_equal_plain_formulas(kernel, random_input((2, 6, 14, 28))[:, ::2, :, ::2], 4)


def test_torchs_operations_are_taken_where_they_are_asked_for_or_there_is_no_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv(compiled.CHOICE_VARIABLE, "torch")
        assert image_statistics_for(CPU) is image_statistics
    x = random_input((2, 3, 8, 8))
    expected = image_statistics(x, 4).quantities
    compiled_kernels()  # a process keeps the first answer, which must not be that of this test
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "kernel_library", lambda _: "no C++ compiler on PATH")
        found = image_statistics_for(CPU)(x, 4).quantities
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
