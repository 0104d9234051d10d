from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edc_ray.core.seeding import draws
from edc_ray.core.views.views import Mix, ViewSettings, draw_epoch_views, render_views
from edc_ray.kernels.cpu import library
from edc_ray.kernels.cpu import views as module
from edc_ray.kernels.cpu.library import KernelLibrary, kernel_source
from edc_ray.kernels.cpu.views import CompiledViews, compiled_views, view_kernel_for

CPU = torch.device("cpu")


@pytest.fixture
def kernel() -> CompiledViews:
    found = compiled_views()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@pytest.mark.parametrize("fields", [{}, {"patch_shuffle": 3}, {"rand_augment": True}], ids=str)
@pytest.mark.parametrize("mix", ["none", "cutmix", "mixup"])
@pytest.mark.parametrize(("side", "channels"), [(8, 1), (33, 3), (64, 3)])
def test_the_kernel_makes_the_bits_of_torchs_operations(
    kernel: CompiledViews, side: int, channels: int, mix: Mix, fields: dict
) -> None:
    keys = [(label, ipc_id) for label in range(4) for ipc_id in range(5)]
    values = draws(3, "images").integers(256, 20, channels, side, side)
    settings = ViewSettings(crop_scale=(0.08, 1.0), mix=mix, mix_group=6, **fields)
    views = draw_epoch_views(5, 1, keys, side, settings)
    for rows in (np.arange(20), np.array([7, 0, 7, 19]), np.array([], np.int64)):
        plain, fast = (
            render_views(
                torch.from_numpy(values.astype(np.uint8)), views, rows,
                mean=(0.4, 0.5, 0.6)[:channels], std=(0.2, 0.25, 0.3)[:channels], kernel=each,
            )
            for each in (None, kernel)
        )  # fmt: skip
        assert torch.equal(plain, fast)
        assert len(fast) == len(rows)


def test_bits_do_not_depend_on_the_number_of_threads(kernel: CompiledViews) -> None:
    views = draw_epoch_views(0, 0, [(0, i) for i in range(9)], 16, ViewSettings())
    images = torch.from_numpy(draws(1).integers(256, 9, 3, 16, 16).astype(np.uint8))
    threads, made = torch.get_num_threads(), []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            made.append(
                render_views(images, views, np.arange(9), mean=(0.5,) * 3, std=(0.2,) * 3, kernel=kernel)
            )
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*made)


def test_a_kernel_that_makes_other_bits_is_not_taken(
    kernel: CompiledViews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "views.cpp"
    source = kernel_source("views").read_text(encoding="utf-8")
    other.write_text(source.replace("/ 255.0f", "* (1.0f / 255.0f)"), encoding="utf-8")
    monkeypatch.setenv("EDC_RAY_KERNEL_CACHE", str(tmp_path))
    monkeypatch.setattr(library, "kernel_library", lambda _: KernelLibrary(other))
    assert compiled_views.__wrapped__() == "it makes other bits than torch's operations"


@pytest.mark.nightly
def test_machines_without_wide_registers_make_the_same_bits(
    kernel: CompiledViews, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "views.cpp"
    source = kernel_source("views").read_text(encoding="utf-8")
    other.write_text(source.replace("__AVX512F__", "NO_SUCH_REGISTERS"), encoding="utf-8")
    monkeypatch.setenv("EDC_RAY_KERNEL_CACHE", str(tmp_path))
    assert module._makes_the_same_bits(CompiledViews(KernelLibrary(other)))


def test_torchs_operations_are_taken_where_they_are_asked_for_or_there_is_no_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert view_kernel_for(torch.device("cuda")) is None
    with monkeypatch.context() as patch:
        patch.setenv("EDC_RAY_KERNELS", "torch")
        assert view_kernel_for(CPU) is None
    monkeypatch.setattr(library, "kernel_library", lambda _: "no C++ compiler on PATH")
    assert compiled_views.__wrapped__() == "no C++ compiler on PATH"
