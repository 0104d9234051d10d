"""The passes of `measured_input` on whole maps, in operations that work on any memory layout.

An accelerator that computes in 16 bits wants its activations channels last, and few launches; and a compiler
fuses these operations, so that no intermediate result is stored. On a CPU `torch_kernels` is faster.
B images, C channels, H W pixels, P patches.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edc_ray.core.layers.measured_input import Gradients, NormKernels, wide
from edc_ray.core.layers.tile_weights import TileWeights
from edc_ray.core.layers.torch_kernels import (
    channel_moments,
    coefficients,
    in_full,
    patch_moments,
    weights_of,
)

# Pairs of pixels: one with its right, its lower and its lower right neighbour; its right and its lower one.
_PAIRS = (((0, 0), (0, 1)), ((0, 0), (1, 0)), ((0, 0), (1, 1)), ((0, 1), (1, 0)))


class LayoutFreeKernels:
    """See `StatisticKernels`."""

    name = "layout_free"
    norms: NormKernels | None = None
    memory_format = torch.channels_last

    def statistics(self, x_BCHW: Tensor, patch_side: int | None) -> Tensor:
        return torch.cat(layer_moments(x_BCHW.detach(), weights_of(x_BCHW, patch_side)))

    def add_gradient(self, x_BCHW: Tensor, patch_side: int | None, measured: Tensor, by: Gradients) -> Tensor:
        constant_C, slope_C, maps = coefficients(x_BCHW, patch_side, measured, by.by_quantity)
        x = in_full(x_BCHW.detach())
        start, in_place = by.upstream, by.in_place
        result = torch.zeros_like(x) if start is None else start.to(x.dtype, copy=not in_place)
        constant, slope = (each.to(x.dtype).view(-1, 1, 1) for each in (constant_C, slope_C))
        maps = None if maps is None else maps.to(x.dtype)
        if maps is not None:
            constant, slope = constant + maps[0], slope + maps[1]
        result.add_(constant).addcmul_(x, slope)
        if maps is not None and len(maps) > 2:
            for pair, factor in zip(_PAIRS, (*maps[2:], maps[4]), strict=True):
                near, far = (_corner(x.shape, pair, one) for one in pair)
                weight = factor[: near[0].stop - near[0].start, : near[1].stop - near[1].start]
                result[..., *near].addcmul_(x[..., *far], weight)
                result[..., *far].addcmul_(x[..., *near], weight)
        return result.to(x_BCHW.dtype)


def layer_moments(x_BCHW: Tensor, weights: TileWeights | None) -> tuple[Tensor, ...]:
    """Mean and variance of channels [C] and, with weights of tiles, of patches [P], in `wide` numbers.

    torch can differentiate it, and its compiler takes it.
    """
    x = in_full(x_BCHW)
    mean_BC = x.mean((2, 3))
    difference = x - mean_BC[..., None, None]
    square = difference.square()
    numbers = wide(x)
    moments = channel_moments(mean_BC.to(numbers), square.mean((2, 3)).to(numbers))
    if weights is None:
        return moments
    centre = mean_BC.detach()[0, 0].to(numbers)
    away_BC = mean_BC.to(numbers) - centre
    values = [difference, difference * away_BC.to(x.dtype)[..., None, None]]
    products = [square]
    if not weights.whole:
        right, lower, diagonal, other = (_product(difference, pair) for pair in _PAIRS)
        products += [right, lower, diagonal + other]
    value_sums, product_sums = (
        torch.stack([_over_planes(each) for each in group]) for group in (values, products)
    )
    return moments + patch_moments(weights, value_sums, product_sums, away_BC.flatten(), centre)


def _over_planes(x_BCHW: Tensor) -> Tensor:
    return x_BCHW.sum(1).to(wide(x_BCHW)).sum(0)


def _corner(
    shape: torch.Size, pair: tuple[tuple[int, int], tuple[int, int]], one: tuple[int, int]
) -> tuple[slice, slice]:
    """Rows and columns of one pixel of every pair."""
    lengths = [length - max(each[axis] for each in pair) for axis, length in enumerate(shape[-2:])]
    return slice(one[0], one[0] + lengths[0]), slice(one[1], one[1] + lengths[1])


def _product(x: Tensor, pair: tuple[tuple[int, int], tuple[int, int]]) -> Tensor:
    """Product of each pair at the upper left pixel's place; 0 where there is no pair."""
    near, far = (_corner(x.shape, pair, one) for one in pair)
    product = x[..., *near] * x[..., *far]
    missing = [x.shape[-1] - product.shape[-1], x.shape[-2] - product.shape[-2]]
    return F.pad(product, (0, missing[0], 0, missing[1]))
