"""The two passes of `measured_input` in torch's own operations, on any device.

They take a few planes [N, H * W] at a time, N = images * channels, so that intermediate results stay in a
cache instead of going through memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from edc_ray.core.layers.measured_input import Gradients, NormKernels, split_quantities, wide
from edc_ray.core.layers.network_numerics import HALF_TYPES
from edc_ray.core.layers.tile_weights import TileWeights, tile_weights

# Numbers of one part: half a megabyte on a CPU. An accelerator wants few launches instead.
_PART_ON_A_CPU, _PART_ELSEWHERE = 1 << 17, 1 << 25


class TorchKernels:
    """See `StatisticKernels`."""

    name = "torch"
    norms: NormKernels | None = None
    memory_format = torch.contiguous_format

    def statistics(self, x_BCHW: Tensor, patch_side: int | None) -> Tensor:
        images, channels, height, width = x_BCHW.shape
        planes = _planes(x_BCHW.detach())
        weights = weights_of(x_BCHW, patch_side)
        shifts = () if weights is None else (0,) if weights.whole else _shifts(width)
        mean_N = planes.new_empty(len(planes), dtype=wide(x_BCHW))
        square_N = torch.empty_like(mean_N)
        centre = in_full(planes[:1]).mean().to(mean_N)
        values = mean_N.new_zeros(2, height * width)  # sums of differences, and times the plane's mean
        products = mean_N.new_zeros(len(shifts), height * width)
        for part, part_planes in _parts(planes):
            mean = part_planes.mean(1)
            mean_N[part] = mean
            difference = part_planes - mean.unsqueeze(1)
            buffer = difference.square()
            square_N[part] = buffer.mean(1)
            if weights is not None:
                products[0] += buffer.sum(0)
                for index, shift in enumerate(shifts[1:], start=1):
                    products[index] += _product_sums(difference, shift, buffer)
                # No matrix product: a device may round the factors of one to fewer bits.
                values[0] += difference.sum(0)
                away = (mean - centre.to(mean)).unsqueeze(1)
                values[1] += torch.mul(difference, away, out=buffer).sum(0)
        moments = channel_moments(mean_N.view(images, channels), square_N.view(images, channels))
        if weights is not None:
            if len(products) > 1:
                # The product with the lower left neighbour is at the right pixel; tiles weigh it at the left.
                products[3] += products[4].roll(-1)
            maps = (values.view(2, height, width), products[:4].view(-1, height, width))
            moments += patch_moments(weights, *maps, mean_N - centre, centre)
        return torch.cat(moments)

    def add_gradient(self, x_BCHW: Tensor, patch_side: int | None, measured: Tensor, by: Gradients) -> Tensor:
        constant_C, slope_C, maps = coefficients(x_BCHW, patch_side, measured, by.by_quantity)
        images, _, _, width = x_BCHW.shape
        planes = _planes(x_BCHW.detach())
        if by.upstream is None:
            target = torch.zeros_like(planes)
        else:
            target = _planes(by.upstream)
            if not by.in_place and target.data_ptr() == by.upstream.data_ptr():
                target = target.clone()
        numbers = torch.float32 if x_BCHW.dtype in HALF_TYPES else x_BCHW.dtype
        constant_N, slope_N = (each.to(numbers).repeat(images).unsqueeze(1) for each in (constant_C, slope_C))
        maps = None if maps is None else maps.to(numbers).flatten(1)
        for part, part_planes in _parts(planes):
            result = in_full(target[part])
            constant, slope = constant_N[part], slope_N[part]
            if maps is not None:
                constant, slope = constant + maps[0], slope + maps[1]
            result.add_(constant).addcmul_(part_planes, slope)
            if maps is not None and len(maps) > 2:
                # The lower left neighbour has the factor of the pixel before.
                factors = (*maps[2:], maps[4].roll(1))
                for shift, factor in zip(_shifts(width)[1:], factors, strict=True):
                    _add_neighbours(result, part_planes, shift, factor)
            if result.dtype != target.dtype:
                target[part] = result
        return target.view(x_BCHW.shape)


TORCH_KERNELS = TorchKernels()


def _planes(x_BCHW: Tensor) -> Tensor:
    return x_BCHW.contiguous().view(-1, x_BCHW.shape[-2] * x_BCHW.shape[-1])


def in_full(x: Tensor) -> Tensor:
    """In float32 if it is of 16 bits."""
    return x.float() if x.dtype in HALF_TYPES else x


def weights_of(x_BCHW: Tensor, patch_side: int | None) -> TileWeights | None:
    """Weights of the tiles of an input; None without a side."""
    if patch_side is None:
        return None
    height, width = x_BCHW.shape[-2:]
    return tile_weights(height, width, patch_side, x_BCHW.device, wide(x_BCHW))


def _parts(planes: Tensor) -> Iterator[tuple[slice, Tensor]]:
    size = _PART_ON_A_CPU if planes.device.type == "cpu" else _PART_ELSEWHERE
    step = max(1, size // planes.shape[1])
    for first in range(0, len(planes), step):
        part = slice(first, first + step)
        yield part, in_full(planes[part])


def _shifts(width: int) -> tuple[int, ...]:
    """Steps in a flat plane: to the pixel itself, its right, lower, lower right, lower left neighbour."""
    return 0, 1, width, width + 1, width - 1


def _product_sums(planes: Tensor, shift: int, buffer: Tensor) -> Tensor:
    """Sums over planes of each pixel times the one `shift` further, 0 where the plane ends.

    Pairs that reach from one row's end into the next row have no weight in any tile.
    """
    length = planes.shape[1]
    sums = planes.new_zeros(length)
    if shift < length:
        products = torch.mul(planes[:, : length - shift], planes[:, shift:], out=buffer[:, : length - shift])
        torch.sum(products, 0, out=sums[: length - shift])
    return sums


def channel_moments(mean_BC: Tensor, square_BC: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of channels, from those of their planes [B, C]."""
    mean = mean_BC.mean(0)
    return mean, square_BC.mean(0) + (mean_BC - mean).square().mean(0)


def patch_moments(
    weights: TileWeights, values: Tensor, products: Tensor, away_N: Tensor, centre: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and variance [P] of the tiles, from sums over planes of differences from the plane's mean.

    x - centre = difference + away, where away is one number for each plane, and centre is near the mean. So
    the mixed part of a square is 2 * away * difference. `values` [2, H, W] are the sums of difference and of
    away * difference, `products` [1 or 4, H, W] those of products of differences as in `TileWeights`.
    """
    value, second = weights.moments(values, products)
    mean = (value[0] + away_N.sum()) / len(away_N)
    variance = (second + 2 * value[1] + away_N.square().sum()) / len(away_N) - mean.square()
    return mean.flatten() + centre, variance.clamp(min=0).flatten()


def coefficients(
    x_BCHW: Tensor, patch_side: int | None, measured: Tensor, by_quantity: Sequence[Tensor | None]
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The parts of the derivative of a loss by pixels, from its derivatives by the statistics.

    A constant and a slope of each channel [C], and maps [2 or 5, H, W] as `TileWeights.spread` orders them:
    of each place a constant, its own factor and, unless tiles are whole, those of its neighbours.
    """
    images, channels, height, width = x_BCHW.shape
    quantities = split_quantities(measured, channels)
    by = [
        torch.zeros_like(quantity) if each is None else each.to(quantity.dtype)
        for quantity, each in zip(quantities, by_quantity, strict=True)
    ]
    slope = by[1] * (2 / (images * height * width))
    constant = by[0] / (images * height * width) - slope * quantities[0]
    if patch_side is None:
        return constant, slope, None
    weights = tile_weights(height, width, patch_side, x_BCHW.device, measured.dtype)
    tiles = (len(weights.rows), len(weights.columns))
    by_mean = (by[2] - 2 * quantities[2] * by[3]).view(tiles) / (images * channels)
    return constant, slope, weights.spread(by_mean, by[3].view(tiles) / (images * channels))


def _add_neighbours(result: Tensor, planes: Tensor, shift: int, factor: Tensor) -> None:
    """Adds factor * neighbour to both pixels of each pair."""
    length = planes.shape[1] - shift
    if length > 0:
        near, far = slice(0, length), slice(shift, None)
        result[:, near].addcmul_(planes[:, far], factor[near])
        result[:, far].addcmul_(planes[:, near], factor[near])
