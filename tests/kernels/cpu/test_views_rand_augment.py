from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from edc_ray.core.seeding import draws
from edc_ray.core.views.rand_augment import (
    OPERATIONS,
    RandAugmentParams,
    apply_rand_augment,
    sample_rand_augment,
)
from edc_ray.kernels.cpu import library
from edc_ray.kernels.cpu import views as compiled_views
from edc_ray.kernels.cpu import views as module
from edc_ray.kernels.cpu.library import KernelLibrary, kernel_library, kernel_source
from edc_ray.kernels.cpu.views import CompiledRandAugment, compiled_rand_augment


@pytest.fixture
def kernel() -> CompiledRandAugment:
    found = kernel_library("rand_augment")
    if isinstance(found, str):
        pytest.skip(found)
    return CompiledRandAugment(found)


def pictures(count: int, channels: int, height: int, width: int) -> Tensor:
    """Of all grey levels, of few, and of one."""
    values = draws(5, "pictures", channels, height).integers(256, count, channels, height, width)
    values[1::4] = 60 + values[1::4] % 40
    values[2::4] = 9
    return torch.from_numpy(values.astype(np.uint8))


@pytest.mark.parametrize("name", [operation.name for operation in OPERATIONS])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 33, 20), (3, 2, 5), (1, 1, 1), (3, 256, 256)], ids=str)
def test_an_operation_gives_the_bytes_of_torchs(
    kernel: CompiledRandAugment, name: str, shape: tuple[int, int, int]
) -> None:
    index = next(place for place, operation in enumerate(OPERATIONS) if operation.name == name)
    images = pictures(4, *shape)
    for share in (0.3, 0.77):
        strength = OPERATIONS[index].strength(share, shape[1:])
        for sign in (1, -1) if OPERATIONS[index].signed else (1,):
            params = RandAugmentParams(np.full((4, 1), index), np.full((4, 1), sign * strength))
            assert torch.equal(kernel(images, params), apply_rand_augment(images, params))


def test_operations_follow_one_another_on_any_number_of_threads(kernel: CompiledRandAugment) -> None:
    images = pictures(60, 3, 12, 12)
    params = sample_rand_augment([draws(3, image) for image in range(60)], (12, 12), 3)
    before, expected = images.clone(), apply_rand_augment(images, params)
    threads = torch.get_num_threads()
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            assert torch.equal(kernel(images, params), expected)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(images, before)


def test_what_the_library_does_not_take_torchs_operations_do(
    kernel: CompiledRandAugment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LARGEST", 15)
    monkeypatch.setattr(module, "apply_rand_augment", lambda *_: "torch's operations")
    params = RandAugmentParams(np.zeros((2, 1), np.int64), np.zeros((2, 1)))
    assert kernel(pictures(2, 3, 4, 4), params) == "torch's operations"
    assert kernel(pictures(2, 3, 3, 5), params) != "torch's operations"
    assert kernel(pictures(2, 3, 3, 5).float(), params) == "torch's operations"
    assert kernel(pictures(3, 3, 3, 5), params) == "torch's operations"


def test_a_kernel_that_makes_other_bytes_is_not_taken(
    kernel: CompiledRandAugment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, other = kernel_source("rand_augment").read_text(encoding="utf-8"), tmp_path / "rand_augment.cpp"
    other.write_text(source.replace("(2 * sum + 13) / 26", "sum / 13"), encoding="utf-8")
    monkeypatch.setenv("EDC_RAY_KERNEL_CACHE", str(tmp_path))
    monkeypatch.setattr(library, "kernel_library", lambda _: KernelLibrary(other))
    assert compiled_rand_augment.__wrapped__() == "it makes other bits than torch's operations"


def test_views_are_changed_by_torchs_operations_where_there_is_no_compiler(
    kernel: CompiledRandAugment, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = compiled_views.compiled_views()
    assert not isinstance(views, str)
    images, params = pictures(9, 3, 8, 8), sample_rand_augment([draws(1, i) for i in range(9)], (8, 8))
    expected = views.change(images, params)
    monkeypatch.setattr(library, "kernel_library", lambda _: "no C++ compiler on PATH")
    assert compiled_rand_augment.__wrapped__() == "no C++ compiler on PATH"
    monkeypatch.setattr(compiled_views, "compiled_rand_augment", compiled_rand_augment.__wrapped__)
    assert torch.equal(views.change(images, params), expected)
