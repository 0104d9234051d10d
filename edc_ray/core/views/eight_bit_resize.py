"""Resizing 8-bit images to the same bytes as Pillow, on any device. N images, C channels.

torch's own 8-bit resize keeps weights in 16 bits and differs from Pillow by up to two levels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_WEIGHT_BITS = 22  # Pillow: 32 bits, less 8 of the pixel, less 2 to spare


def resize_8_bit(images_NCHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Pillow's bilinear resize (with antialiasing) of uint8 images to `size`, (height, width).

    All sums are exact, so the bytes are equal on every device.

    Source:
        Pillow, libImaging/Resample.c: columns first, rounded to 8 bits, then rows. An axis that keeps its
        length is skipped.
    Deviations:
        Pillow 13 resizes rows first in images that lose height but little or no width: one level apart.
    """
    if images_NCHW.dtype != torch.uint8:
        raise ValueError(f"8-bit resizing of {images_NCHW.dtype}")
    pixels = images_NCHW.double()
    for axis in (3, 2):
        before, after = pixels.shape[axis], size[axis - 2]
        if before != after:
            # Integers below 2**53 in float64: no rounding in any order of the sums.
            sums = pixels.transpose(axis, 3) @ _weights(before, after).to(pixels.device).T
            rounded = ((sums + 2 ** (_WEIGHT_BITS - 1)) / 2**_WEIGHT_BITS).floor().clamp(0, 255)
            pixels = rounded.transpose(axis, 3)
    return pixels.to(torch.uint8).contiguous()


def _weights(before: int, after: int) -> Tensor:
    """Fixed-point weights of a triangle filter, float64 [after, before]."""
    ratio = before / after
    support = max(ratio, 1.0)
    slope = 1.0 / support
    rows = []
    for position in range(after):
        centre = (position + 0.5) * ratio
        first, last = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), before)
        triangle = [max(0.0, 1.0 - abs((i - centre + 0.5) * slope)) for i in range(first, last)]
        total = sum(triangle)
        fixed = [math.floor(weight / total * 2**_WEIGHT_BITS + 0.5) for weight in triangle]
        rows.append([0] * first + fixed + [0] * (before - last))
    return torch.tensor(rows, dtype=torch.float64)
