"""Cutting, mixing and RandAugment of views as compiled kernels, for uint8 images on a CPU."""

from __future__ import annotations

import math
import os
from functools import cache

import torch
from torch import Tensor

from edc_ray.core.views.augment import AugmentParams, Taps
from edc_ray.core.views.cut_views import ViewCutter
from edc_ray.core.views.rand_augment import (
    OPERATIONS,
    RandAugmentParams,
    apply_rand_augment,
    is_moving,
    moved_from,
)
from edc_ray.core.views.views import EpochViews, Mix, ViewKernel, render_views
from edc_ray.kernels.cpu.library import KernelLibrary, kernel_of_the_same_bits

_LARGEST = 1 << 16
"""Up to this many pixels the mean grey is exact in float32, whatever the order of the sum."""
_KINDS = (
    "Identity", "moving", "Brightness", "Color", "Contrast", "Sharpness", "Posterize", "Solarize",
    "AutoContrast", "Equalize",
)  # fmt: skip
"""In the order of the kernel's numbers."""
_KIND_OF_EACH = [_KINDS.index("moving" if is_moving(each.name) else each.name) for each in OPERATIONS]
"""The kernel's number of each of OPERATIONS."""


def view_kernel_for(device: torch.device) -> ViewKernel | None:
    """The kernel for a device, or None to use torch's operations, as EDC_RAY_KERNELS=torch asks.

    Both make the same bits, so a missing compiler causes no warning.
    """
    if device.type != "cpu" or os.environ.get("EDC_RAY_KERNELS", "auto") == "torch":
        return None
    found = compiled_views()
    return None if isinstance(found, str) else found


@cache
def compiled_views() -> CompiledViews | str:
    """The kernel, or why it cannot be used. A process tries once."""
    return kernel_of_the_same_bits("views", CompiledViews, _makes_the_same_bits)


class CompiledViews:
    """See `core.views.views.ViewKernel`. The bits do not depend on the number of threads."""

    def __init__(self, library: KernelLibrary) -> None:
        self._library = library

    def __call__(
        self, own: ViewCutter, partners: ViewCutter | None, box_B4: Tensor | None, lam_B: Tensor | None
    ) -> Tensor:
        views_BCHW = own.empty()
        box = None if box_B4 is None else box_B4.long().contiguous()
        lam = None if lam_B is None else torch.stack([lam_B, 1.0 - lam_B], dim=1).float()
        arguments = [
            own.images, *_sources(own), *(_sources(partners) if partners is not None else [None] * 7),
            box, lam, own.mean, own.std, views_BCHW,
        ]  # fmt: skip
        self._library.call("cut_views", *arguments, *own.shape)
        return views_BCHW

    def change(self, images_BCHW: Tensor, changes: RandAugmentParams) -> Tensor:
        kernel = compiled_rand_augment()
        return (apply_rand_augment if isinstance(kernel, str) else kernel)(images_BCHW, changes)


def _sources(cutter: ViewCutter) -> list[Tensor]:
    def positions(taps: Taps) -> list[Tensor]:
        return [taps.first.int().contiguous(), taps.second.int().contiguous()]

    weights = [taps.weight.contiguous() for taps in (cutter.rows, cutter.columns)]
    return [cutter.image, *positions(cutter.rows), *positions(cutter.columns), *weights]


def _makes_the_same_bits(kernel: ViewKernel) -> bool:
    pixels = (torch.arange(6 * 3 * 19 * 19) ** 2 % 257).to(torch.uint8).view(6, 3, 19, 19)
    lengths, rows = torch.arange(6), torch.arange(6).numpy()
    crops = AugmentParams(lengths % 3, lengths % 4, 15 - lengths, 13 - lengths // 2, lengths % 2 == 0)
    mixes: tuple[Mix, ...] = ("none", "cutmix", "mixup")
    for mix in mixes:
        views = EpochViews(
            image=rows, crops=crops, mix=mix, group=rows // 6, partner=5 - rows,
            box=torch.tensor([[3, 11, 2, 15]] * 6).numpy(), lam=torch.full((6,), 0.37).double().numpy(),
        )  # fmt: skip
        made = [
            render_views(pixels, views, rows, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), kernel=each)
            for each in (None, kernel)
        ]
        if not torch.equal(*made):
            return False
    return True


@cache
def compiled_rand_augment() -> CompiledRandAugment | str:
    """The kernel, or why it cannot be used. A process tries once."""
    return kernel_of_the_same_bits("rand_augment", CompiledRandAugment, _makes_the_same_bytes)


class CompiledRandAugment:
    """See `apply_rand_augment`. Torch's operations handle what the library does not support."""

    def __init__(self, library: KernelLibrary) -> None:
        self._library = library

    def __call__(self, images_BCHW: Tensor, params: RandAugmentParams) -> Tensor:
        shape = images_BCHW.shape
        known = images_BCHW.device.type == "cpu" and images_BCHW.dtype == torch.uint8
        known = known and shape[1] in (1, 3) and math.prod(shape[2:]) <= _LARGEST
        if not known or len(images_BCHW) != len(params):
            return apply_rand_augment(images_BCHW, params)
        drawn = list(zip(params.operation.flat, params.magnitude.flat, strict=True))
        maps = {
            (operation, strength): moved_from(OPERATIONS[operation].name, strength, *images_BCHW.shape[2:])
            for operation, strength in set(drawn)
            if is_moving(OPERATIONS[operation].name)
        }
        pointers = [maps[each].data_ptr() if each in maps else 0 for each in drawn]
        changed = images_BCHW.clone(memory_format=torch.contiguous_format)
        arguments = [
            changed, torch.tensor(_KIND_OF_EACH)[torch.from_numpy(params.operation)],
            torch.from_numpy(params.magnitude).contiguous(), torch.tensor(pointers, dtype=torch.int64),
        ]  # fmt: skip
        self._library.call("change_images", *arguments, *changed.shape, params.operation.shape[1])
        return changed


def _makes_the_same_bytes(kernel: CompiledRandAugment) -> bool:
    count = 2 * len(OPERATIONS)
    pixels = (torch.arange(count * 3 * 23 * 19) ** 2 % 257).to(torch.uint8).view(count, 3, 23, 19)
    operation = torch.arange(count).remainder(len(OPERATIONS))[:, None].numpy()
    strengths = [each.strength(0.3, (23, 19)) for each in OPERATIONS]
    strengths += [each.strength(0.3, (23, 19)) * (-1 if each.signed else 1) for each in OPERATIONS]
    params = RandAugmentParams(operation, torch.tensor(strengths, dtype=torch.float64)[:, None].numpy())
    return torch.equal(kernel(pixels, params), apply_rand_augment(pixels, params))
