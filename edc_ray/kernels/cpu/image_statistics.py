"""Moments of each image (`core.layers.image_statistics`) as a compiled kernel, for float32 on a CPU."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from edc_ray.core.layers.image_statistics import ImageStatistics, image_statistics
from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.layers.network_numerics import HALF_TYPES
from edc_ray.kernels.cpu.library import KernelLibrary, kernel_library
from edc_ray.kernels.cpu.statistics import CompiledKernels, axis_of, kernels_for


@runtime_checkable
class MeasuresImages(Protocol):
    """Kernels that measure every image by itself, too."""

    def image_statistics(self, x_BCHW: Tensor, patch_side: int | None) -> LayerStatistics:
        """See `core.layers.image_statistics.image_statistics`."""
        ...


def image_statistics_for(device: torch.device) -> ImageStatistics:
    """The fastest implementation on this machine for a device. Chooses like `kernels_for`.

    Raises:
        ConfigError: see `kernels_for`.
    """
    kernels = kernels_for(device)
    if isinstance(kernels, MeasuresImages):
        return kernels.image_statistics
    if not isinstance(kernels, CompiledKernels):
        return image_statistics
    library = kernel_library("image_statistics")
    return image_statistics if isinstance(library, str) else CompiledImageStatistics(library)


class CompiledImageStatistics:
    """See `image_statistics`. Torch's operations handle what the library does not support.

    Results do not depend on the number of threads. Their last bits differ from torch's.
    """

    def __init__(self, library: KernelLibrary) -> None:
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
            weights = (axis_of(height, patch_side), axis_of(width, patch_side))
        mean = torch.empty(images, channels + tiles[0] * tiles[1], dtype=torch.float64)
        variance = torch.empty_like(mean)
        sizes = (int(not pixels), images, channels, height, width, *tiles)
        self._library.call("image_statistics", x_BCHW, *sizes, *weights, mean, variance)
        quantities = [mean[:, :channels], variance[:, :channels]]
        if patch_side is not None:
            quantities += [mean[:, channels:], variance[:, channels:]]
        return LayerStatistics(*quantities)
