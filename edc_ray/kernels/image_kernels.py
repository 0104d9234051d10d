"""Moments of every image by itself (`core.image_statistics`) as a compiled kernel, for float32 on a CPU."""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from edc_ray.core.image_statistics import ImageStatistics, image_statistics
from edc_ray.core.moments import LayerStatistics
from edc_ray.core.network_numerics import HALF_TYPES
from edc_ray.core.tile_weights import axis_weights
from edc_ray.kernels.compiled import CompiledKernels, kernels_for
from edc_ray.kernels.compiler import CompilationError, compiled_library, kernel_source

_SOURCE = kernel_source("image_statistics")


def image_statistics_for(device: torch.device) -> ImageStatistics:
    """The fastest implementation that this machine has for a device, chosen as `kernels_for` does.

    Raises:
        ConfigError: as `kernels_for`.
    """
    if not isinstance(kernels_for(device), CompiledKernels):
        return image_statistics
    library = _library()
    return image_statistics if library is None else CompiledImageStatistics(library)


@cache
def _library() -> ctypes.CDLL | None:
    try:
        return compiled_library(_SOURCE)
    except CompilationError:
        return None


class CompiledImageStatistics:
    """See `image_statistics`. What the library does not take, torch's operations do.

    Results do not depend on the number of threads. Their last bits differ from torch's.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def __call__(self, x_BCHW: Tensor, patch_side: int | None) -> LayerStatistics:
        if x_BCHW.dtype in HALF_TYPES:
            x_BCHW = x_BCHW.float()
        if x_BCHW.device.type != "cpu" or x_BCHW.dtype != torch.float32 or not x_BCHW.numel():
            return image_statistics(x_BCHW, patch_side)
        pixels = x_BCHW.shape[1] > 1 and x_BCHW.is_contiguous(memory_format=torch.channels_last)
        pixels = pixels and not x_BCHW.is_contiguous()
        x_BCHW = x_BCHW.detach() if pixels else x_BCHW.detach().contiguous()
        images, channels, height, width = x_BCHW.shape
        tiles, weights = (0, 0), (None, None)
        if patch_side is not None:
            tiles = (-(-height // patch_side), -(-width // patch_side))
            weights = (_axis(height, patch_side), _axis(width, patch_side))
        mean = torch.empty(images, channels + tiles[0] * tiles[1], dtype=torch.float64)
        variance = torch.empty_like(mean)
        sizes = (int(not pixels), images, channels, height, width, *tiles)
        pointers = [None if one is None else one.data_ptr() for one in (x_BCHW, *weights, mean, variance)]
        first, *others = map(ctypes.c_void_p, pointers)
        threads = ctypes.c_int(torch.get_num_threads())
        if self._library.image_statistics(first, *map(ctypes.c_long, sizes), *others, threads):
            raise MemoryError("no memory for the sums of an image")
        quantities = [mean[:, :channels], variance[:, :channels]]
        if patch_side is not None:
            quantities += [mean[:, channels:], variance[:, channels:]]
        return LayerStatistics(*quantities)


@cache
def _axis(length: int, side: int) -> Tensor:
    axis = axis_weights(length, side)
    return torch.stack([axis.value, axis.square, axis.product])
