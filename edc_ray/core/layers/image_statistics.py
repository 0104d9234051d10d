"""Moments of every image by itself, in torch's operations: sums per class are made of them.

B images, C channels, H W pixels, P patches. A few images are measured at a time, so that intermediate results
stay in a cache; the stretched map of the patches is never formed (`tile_weights`).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edc_ray.core.layers.measured_input import wide
from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.layers.tile_weights import TileWeights
from edc_ray.core.layers.torch_kernels import in_full, weights_of

ImageStatistics = Callable[[Tensor, int | None], LayerStatistics]  # a function like `image_statistics`

# Numbers of one part: half a megabyte on a CPU. An accelerator wants few launches instead.
_PART_ON_A_CPU, _PART_ELSEWHERE = 1 << 17, 1 << 26


def image_statistics(x_BCHW: Tensor, patch_side: int | None) -> LayerStatistics:
    """Statistics of every image in `wide` numbers, one row per image: [B, C] and, with a side, [B, P]."""
    _, channels, height, width = x_BCHW.shape
    weights = weights_of(x_BCHW, patch_side)
    size = _PART_ON_A_CPU if x_BCHW.device.type == "cpu" else _PART_ELSEWHERE
    parts = x_BCHW.split(max(1, size // max(1, channels * height * width)))
    rows = [_part_statistics(part, weights) for part in parts]
    return LayerStatistics(*(torch.cat(column) for column in zip(*rows, strict=True)))


def _part_statistics(x_BCHW: Tensor, weights: TileWeights | None) -> tuple[Tensor, ...]:
    x_BCHW = in_full(x_BCHW)
    mean = x_BCHW.mean((2, 3), keepdim=True)
    channel = (mean.flatten(1), (x_BCHW - mean).square().mean((2, 3)))
    if weights is None:
        return tuple(each.to(wide(x_BCHW)) for each in channel)
    # Around the image's mean, so that second moments stay exact for a mean far from 0.
    centre = mean.mean(1, keepdim=True)
    moved = x_BCHW - centre
    products = torch.zeros(1 if weights.whole else 4, len(moved), *moved.shape[2:]).to(moved)
    products[0] = moved.square().mean(1)
    if not weights.whole:
        products[1, :, :, :-1] = (moved[..., :-1] * moved[..., 1:]).mean(1)
        products[2, :, :-1] = (moved[:, :, :-1] * moved[:, :, 1:]).mean(1)
        falling = moved[:, :, :-1, :-1] * moved[:, :, 1:, 1:]
        products[3, :, :-1, :-1] = falling.addcmul_(moved[:, :, :-1, 1:], moved[:, :, 1:, :-1]).mean(1)
    patch_mean, second = weights.moments(moved.mean(1).to(wide(x_BCHW)), products.to(wide(x_BCHW)))
    patch = ((patch_mean + centre.flatten(1).unsqueeze(2)).flatten(1), second - patch_mean.square())
    return *(each.to(wide(x_BCHW)) for each in channel), patch[0], patch[1].clamp(min=0).flatten(1)
