"""A ConvNet's norm, ReLU and pooling (`core.layers.norm_pool`) as a compiled kernel, for float32 on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor

from edc_ray.core.layers.norm_pool import TORCH_NORM_POOL, NormPoolKernels
from edc_ray.kernels.cpu.library import KernelLibrary, kernel_library
from edc_ray.kernels.cpu.statistics import CompiledKernels, kernels_for


def norm_pool_kernels_for(device: torch.device) -> NormPoolKernels | None:
    """The fastest implementation for a device, chosen like `kernels_for`, with its errors.

    None if torch's own layers are at least as good. Implementations differ in the last bits.
    """
    if device.type != "cpu":
        return None
    if not isinstance(kernels_for(device), CompiledKernels):
        return TORCH_NORM_POOL
    library = kernel_library("norm_pool")
    return TORCH_NORM_POOL if isinstance(library, str) else CompiledNormPool(library)


class CompiledNormPool:
    """See `NormPoolKernels`. Torch's operations handle what the library does not support.

    An image's results depend neither on the number of threads nor on the other images.
    """

    memory_format = torch.channels_last

    def __init__(self, library: KernelLibrary) -> None:
        self._library = library

    def forward(
        self, x_BCHW: Tensor, weight_C: Tensor, bias_C: Tensor, epsilon: float
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        if x_BCHW.dtype != torch.float32:
            return TORCH_NORM_POOL.forward(x_BCHW, weight_C, bias_C, epsilon)
        images, channels, height, width = x_BCHW.shape
        result = x_BCHW.new_empty(images, height // 2, width // 2, channels)
        mean, inverse = x_BCHW.new_empty(2, images, channels)
        words = _pixels(x_BCHW), weight_C.contiguous(), bias_C.contiguous(), result, mean, inverse
        self._library.call("norm_pool_forward", *words, *x_BCHW.shape, epsilon)
        return result.permute(0, 3, 1, 2), (mean, inverse)

    def backward(
        self, x_BCHW: Tensor, kept: tuple[Tensor, ...], weight_C: Tensor, bias_C: Tensor, by_result: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        if x_BCHW.dtype != torch.float32:
            return TORCH_NORM_POOL.backward(x_BCHW, kept, weight_C, bias_C, by_result)
        x_BHWC = _pixels(x_BCHW)
        by_x = torch.empty_like(x_BHWC)
        by_weight, by_bias = x_BCHW.new_empty(2, *x_BCHW.shape[:2])
        words = x_BHWC, _pixels(by_result), weight_C.contiguous(), bias_C.contiguous(), *kept
        self._library.call("norm_pool_backward", *words, by_x, by_weight, by_bias, *x_BCHW.shape)
        return by_x.permute(0, 3, 1, 2), by_weight.sum(0), by_bias.sum(0)


def _pixels(x_BCHW: Tensor) -> Tensor:
    """[B, H, W, C], contiguous; copied only if it is not channels last."""
    return x_BCHW.permute(0, 2, 3, 1).contiguous()
