"""A layer's input on its way into the layer: measured going forward, pushed going backward.

The statistics come from one read of the input. Their derivative by a pixel is a constant of its
channel and of its place, plus a multiple of itself and (where the map is stretched for the patches)
of its neighbours; it is added to the gradient that comes out of the layer in one more read. Nothing
is kept for the backward pass but the input, which the layer keeps anyway.
B images, C channels, H W pixels, P patches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from edc_ray.core.tile_weights import tile_weights


@dataclass(frozen=True)
class PixelCoefficients:
    """dL/dx = constant_C + (slope_C + K0) x + the neighbours' terms + maps_HW[0]; see `TileWeights.spread`.

    `maps` [1 + 1 or 4, H, W] hold the place's constant and K0 (KR, KV, KX); None without patches.
    """

    constant: Tensor
    slope: Tensor
    maps: Tensor | None


class StatisticKernels(Protocol):
    """The two passes over an input, in some implementation."""

    name: str
    memory_format: torch.memory_format  # of the images, for the network to run best with these kernels

    def statistics(self, x_BCHW: Tensor, patch_side: int | None) -> tuple[Tensor, ...]:
        """Channel mean and variance [C] and, with a side, patch mean and variance [P], in `wide` numbers."""
        ...

    def add_gradient(
        self, x_BCHW: Tensor, upstream: Tensor | None, coefficients: PixelCoefficients, *, in_place: bool
    ) -> Tensor:
        """The derivative plus `upstream`, whose memory may be taken for it if `in_place`."""
        ...


def wide(tensor: Tensor) -> torch.dtype:
    """The type that sums are kept in: float64 wherever the device has it."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def measure(
    x_BCHW: Tensor, patch_side: int | None, kernels: StatisticKernels, *, owns_gradient: bool = False
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The statistics of an input, and the input to go on with.

    Args:
        x_BCHW: a layer's input.
        patch_side: side of a patch; None for channels alone.
        kernels: who computes.
        owns_gradient: whether the gradient of the returned input is a tensor nobody else holds, so
            that the statistics' part may be added in place. True of a convolution and a BatchNorm as
            its only consumer.

    Returns:
        `x_BCHW` under a new name (the same memory), and its two or four statistics, differentiable.
    """
    passed, *quantities = _Measure.apply(x_BCHW, patch_side, kernels, owns_gradient)  # pyright: ignore[reportGeneralTypeIssues]
    return passed, tuple(quantities)


class _Measure(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_BCHW: Tensor, patch_side: int | None, kernels: StatisticKernels, owns_gradient: bool
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.patch_side, ctx.kernels, ctx.owns_gradient = patch_side, kernels, owns_gradient
        quantities = kernels.statistics(x_BCHW, patch_side)
        ctx.save_for_backward(x_BCHW, *quantities[0::2])
        shown = x_BCHW.dtype if x_BCHW.dtype in (torch.float32, torch.float64) else torch.float32
        return (x_BCHW, *(quantity.to(shown) for quantity in quantities))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor | None, *by_quantity: Tensor | None) -> Any:
        if all(gradient is None for gradient in by_quantity):
            return upstream, None, None, None
        x_BCHW, *means = ctx.saved_tensors
        coefficients = pixel_coefficients(x_BCHW, ctx.patch_side, means, by_quantity)
        gradient = ctx.kernels.add_gradient(x_BCHW, upstream, coefficients, in_place=ctx.owns_gradient)
        return gradient, None, None, None


def pixel_coefficients(
    x_BCHW: Tensor, patch_side: int | None, means: list[Tensor], by_quantity: tuple[Tensor | None, ...]
) -> PixelCoefficients:
    """What the derivative of a loss by pixels is made of, from its derivatives by the statistics.

    Args:
        x_BCHW: gives the sizes.
        patch_side: as it was measured.
        means: channel mean [C] and, with patches, patch mean [P], in wide numbers.
        by_quantity: derivatives in the order of the statistics; None is 0.
    """
    images, channels, height, width = x_BCHW.shape
    filled = [
        means[index // 2].new_zeros(means[index // 2].shape) if each is None else each.to(wide(x_BCHW))
        for index, each in enumerate(by_quantity)
    ]
    slope = filled[1] * (2 / (images * height * width))
    constant = filled[0] / (images * height * width) - slope * means[0]
    maps = None
    if patch_side is not None:
        weights = tile_weights(height, width, patch_side, x_BCHW.device, wide(x_BCHW))
        tiles = (len(weights.rows), len(weights.columns))
        by_mean = (filled[2] - 2 * means[1] * filled[3]).view(tiles) / (images * channels)
        maps = weights.spread(by_mean, filled[3].view(tiles) / (images * channels))
    return PixelCoefficients(constant, slope, maps)
