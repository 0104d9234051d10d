"""The two passes of `measured_input` in torch's own operations, on any device.

Activations are taken as planes [N, H * W], N = images * channels, a few at a time, so that what is
computed in between stays in a cache instead of going through memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from edc_ray.core.measured_input import PixelCoefficients, wide
from edc_ray.core.tile_weights import TileWeights, tile_weights

# Numbers of one part: half a megabyte on a CPU. An accelerator wants few launches instead.
_PART_ON_A_CPU, _PART_ELSEWHERE = 1 << 17, 1 << 25


class TorchKernels:
    """See `StatisticKernels`."""

    name = "torch"
    memory_format = torch.contiguous_format

    def statistics(self, x_BCHW: Tensor, patch_side: int | None) -> tuple[Tensor, ...]:
        """Two looks at each part while it is in the cache: the planes' means, then what differs from them."""
        images, channels, height, width = x_BCHW.shape
        planes = _planes(x_BCHW.detach())
        weights = (
            None
            if patch_side is None
            else tile_weights(height, width, patch_side, x_BCHW.device, wide(x_BCHW))
        )
        shifts = () if weights is None else (0,) if weights.whole else _shifts(width)
        mean_N = planes.new_empty(len(planes), dtype=wide(x_BCHW))
        square_N = torch.empty_like(mean_N)
        centre = _in_full(planes[:1]).mean().to(mean_N)
        values = mean_N.new_zeros(2, height * width)  # sums of differences, and times the plane's mean
        products = mean_N.new_zeros(len(shifts), height * width)
        for part, part_planes in _parts(planes):
            mean = part_planes.mean(1)
            mean_N[part] = mean
            difference = part_planes - mean.unsqueeze(1)
            buffer = difference.square()
            square_N[part] = buffer.mean(1)
            if weights is not None:
                factors = torch.stack([torch.ones_like(mean), mean - centre.to(mean)])
                values += factors @ difference
                for index, shift in enumerate(shifts):
                    products[index] += (
                        buffer.sum(0) if index == 0 else _product_sums(difference, shift, buffer)
                    )
        channel = channel_moments(mean_N.view(images, channels), square_N.view(images, channels))
        if weights is None:
            return channel
        maps = around_centre(values, products, width, mean_N - centre) / len(planes)
        return *channel, *patch_moments(weights, maps, centre)

    def add_gradient(
        self, x_BCHW: Tensor, upstream: Tensor | None, coefficients: PixelCoefficients, *, in_place: bool
    ) -> Tensor:
        """Adds term after term to one part while it is in the cache."""
        images, _, _, width = x_BCHW.shape
        planes = _planes(x_BCHW.detach())
        if upstream is None:
            target = torch.zeros_like(planes)
        else:
            target = _planes(upstream)
            if not in_place and target.data_ptr() == upstream.data_ptr():
                target = target.clone()
        numbers = torch.float32 if x_BCHW.dtype in (torch.float16, torch.bfloat16) else x_BCHW.dtype
        constant_N, slope_N = (
            each.to(numbers).repeat(images).unsqueeze(1)
            for each in (coefficients.constant, coefficients.slope)
        )
        maps = None if coefficients.maps is None else coefficients.maps.to(numbers).flatten(1)
        for part, part_planes in _parts(planes):
            result = _in_full(target[part])
            constant, slope = constant_N[part], slope_N[part]
            if maps is not None:
                constant, slope = constant + maps[0], slope + maps[1]
            result.add_(constant).addcmul_(part_planes, slope)
            if maps is not None and len(maps) > 2:
                for shift, factor in zip(_shifts(width)[1:], _shifted_maps(maps), strict=True):
                    _add_neighbours(result, part_planes, shift, factor)
            if result.dtype != target.dtype:
                target[part] = result
        return target.view(x_BCHW.shape)


TORCH_KERNELS = TorchKernels()


def _planes(x_BCHW: Tensor) -> Tensor:
    return x_BCHW.contiguous().view(-1, x_BCHW.shape[-2] * x_BCHW.shape[-1])


def _in_full(part: Tensor) -> Tensor:
    return part.float() if part.dtype in (torch.float16, torch.bfloat16) else part


def _parts(planes: Tensor) -> Iterator[tuple[slice, Tensor]]:
    size = _PART_ON_A_CPU if planes.device.type == "cpu" else _PART_ELSEWHERE
    step = max(1, size // planes.shape[1])
    for first in range(0, len(planes), step):
        part = slice(first, first + step)
        yield part, _in_full(planes[part])


def _shifts(width: int) -> tuple[int, ...]:
    """From a pixel to itself, its right, lower, lower right and lower left neighbour in a flat plane."""
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
    """Mean and variance of channels, from those of their planes."""
    mean = mean_BC.mean(0)
    return mean, square_BC.mean(0) + (mean_BC - mean).square().mean(0)


def around_centre(values: Tensor, products: Tensor, width: int, away_N: Tensor) -> Tensor:
    """Sums of x - centre and of its products, from those of x minus its plane's mean.

    With x - centre = difference + away, the products' mixed terms need the sums of away * difference only.

    Args:
        values: sums over planes [2, H * W] of the differences, and of away * difference.
        products: sums [1 or 5, H * W] of products of differences, in the order of `_shifts`.
        width: W.
        away_N: each plane's mean minus the centre.

    Returns:
        [2 or 6, H * W], the values first.
    """
    mixed = values[1]
    sums = [values[0] + away_N.sum()]
    for shift, product in zip(_shifts(width), products, strict=False):
        neighbour = torch.zeros_like(mixed)
        if shift < len(mixed):
            neighbour[: len(mixed) - shift] = mixed[shift:]
        sums.append(product + mixed + neighbour + away_N.square().sum())
    return torch.stack(sums)


def patch_moments(weights: TileWeights, maps: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance [P] of the tiles, from means over planes as `around_centre` orders them."""
    size = (weights.rows.shape[1], weights.columns.shape[1])
    products = maps[1:]
    if len(products) > 1:
        # The product with the lower left neighbour stands at the right pixel; tiles weigh it at the left.
        both_diagonals = products[3] + products[4].roll(-1)
        products = torch.cat([products[:3], both_diagonals.unsqueeze(0)])
    mean, second = weights.moments(maps[0].view(size), products.view(-1, *size))
    return mean.flatten() + centre, (second - mean.square()).clamp(min=0).flatten()


def neighbour_factors(maps: Tensor, width: int) -> Tensor:
    """A factor for each neighbour by itself: [10, H * W] of [5, H * W], or the same where there are but two.

    After the place's constant and the pixel's own factor: right, left, lower, lower right, upper, upper
    left, lower left, upper right. A pair's factor stands at its first pixel in `maps`, and here at both.
    """
    if len(maps) == 2:
        return maps
    _, _, right, lower, diagonal = maps
    pairs = [right, right.roll(1), lower, diagonal, lower.roll(width), diagonal.roll(width + 1)]
    return torch.cat([maps[:2], torch.stack([*pairs, diagonal.roll(1), diagonal.roll(width)])])


def _shifted_maps(maps: Tensor) -> tuple[Tensor, ...]:
    """KR, KV, KX and KX again as the lower left neighbour's factor: that of the pixel before."""
    return maps[2], maps[3], maps[4], maps[4].roll(1)


def _add_neighbours(result: Tensor, planes: Tensor, shift: int, factor: Tensor) -> None:
    """Adds factor * neighbour to both pixels of each pair."""
    length = planes.shape[1] - shift
    if length > 0:
        near, far = slice(0, length), slice(shift, None)
        result[:, near].addcmul_(planes[:, far], factor[near])
        result[:, far].addcmul_(planes[:, near], factor[near])
