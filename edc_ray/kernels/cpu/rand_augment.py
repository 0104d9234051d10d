"""RandAugment as a compiled kernel, for uint8 images on a CPU."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from edc_ray.core.views.rand_augment import (
    OPERATIONS,
    RandAugmentParams,
    apply_rand_augment,
    is_moving,
    moved_from,
)
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
