"""Pixels in [0, 1], normalised pixels, and 8-bit pixels.

B images, C channels, H W pixels. `mean` and `std` hold one number per channel, in [0, 1] pixel units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Rounding = Literal["trunc", "round"]


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(images - mean) / std for images [..., C, H, W] in [0, 1]."""
    return (images - _per_channel(mean, images)) / _per_channel(std, images)


def denormalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Inverse of `normalise`, clamped to [0, 1]."""
    return (images * _per_channel(std, images) + _per_channel(mean, images)).clamp(0, 1)


def pixel_bounds(mean: Sequence[float], std: Sequence[float], like: Tensor) -> tuple[Tensor, Tensor]:
    """Normalised values of black and of white, each [C, 1, 1], with the dtype and device of `like`."""
    means, stds = _per_channel(mean, like), _per_channel(std, like)
    return -means / stds, (1 - means) / stds


def to_uint8(images: Tensor, rounding: Rounding = "trunc") -> Tensor:
    """8-bit images from floating-point images in [0, 1]; values outside are clamped.

    "trunc" rounds as the official code (half a grey level darker on average), "round" to the nearest; a
    ValueError if it is neither.

    Deviations:
        `edc` rounds, since truncation darkens; `edc_official` truncates.
    """
    if rounding not in ("trunc", "round"):
        raise ValueError(f"unknown rounding {rounding!r}: use 'trunc' or 'round'")
    scaled = images.clamp(0, 1) * 255
    return (scaled.round() if rounding == "round" else scaled).to(torch.uint8)


def from_uint8(images: Tensor) -> Tensor:
    """float32 images in [0, 1] from 8-bit images."""
    return images.to(torch.float32) / 255


def _per_channel(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(-1, 1, 1)
