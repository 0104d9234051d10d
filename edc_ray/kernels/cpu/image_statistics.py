"""Moments of each image (`core.layers.image_statistics`) as a compiled kernel, for float32 on a CPU."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from edc_ray.core.layers.image_statistics import ImageStatistics, image_statistics
from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.kernels.cpu.library import KernelLibrary, kernel_library
from edc_ray.kernels.cpu.statistics import CompiledKernels, is_taken, kernels_for, tiles_of, widened


@runtime_checkable
class MeasuresImages(Protocol):
    """Kernels that can also measure every image by itself."""

    def image_statistics(self, x_BCHW: Tensor, patch_side: int | None) -> LayerStatistics:
        """See `core.layers.image_statistics.image_statistics`."""
        ...


def image_statistics_for(device: torch.device) -> ImageStatistics:
    """The fastest implementation on this machine for a device, chosen like `kernels_for`, with its errors."""
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
        x_BCHW = widened(x_BCHW)
        if not is_taken(x_BCHW):
            return image_statistics(x_BCHW, patch_side)
        pixels = x_BCHW.shape[1] > 1 and x_BCHW.is_contiguous(memory_format=torch.channels_last)
        pixels = pixels and not x_BCHW.is_contiguous()
        x_BCHW = x_BCHW.detach() if pixels else x_BCHW.detach().contiguous()
        sizes, weights = tiles_of(x_BCHW, patch_side)
        images, channels, _, _, rows, columns = sizes
        mean, variance = torch.empty(2, images, channels + rows * columns, dtype=torch.float64)
        self._library.call("image_statistics", x_BCHW, int(not pixels), *sizes, *weights, mean, variance)
        quantities = [mean[:, :channels], variance[:, :channels]]
        if patch_side is not None:
            quantities += [mean[:, channels:], variance[:, channels:]]
        return LayerStatistics(*quantities)
