"""Cutting, resizing, flipping and normalising crops of 8-bit images in one step.

M images, B views, C channels, H W pixels, h w pixels of a window of the views.

The bits are those of `augment.apply_views` and `pixels.normalise` on whole images as floats. Here only the
rows that are read become floats, and bands are shuffled by shuffling the positions that are read. On a CPU a
few views are made at a time, so that intermediate results stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from edc_ray.core.views.augment import AugmentParams, Taps, view_taps
from edc_ray.core.views.patch_shuffle import BandOrders, band_sources

_PIXELS_AT_ONCE = {"cpu": 1 << 17}  # floats that stay in the second cache of one core
_PIXELS_ELSEWHERE = 1 << 27


class Window(NamedTuple):
    """A part of the views, half open."""

    row0: int
    row1: int
    column0: int
    column1: int


class _Reads(NamedTuple):
    """On the images' device: all lines of all images, the taps that read them, mean and std."""

    lines: Tensor
    rows: Taps
    columns: Taps
    mean: Tensor
    std: Tensor


class ViewCutter:
    """Cuts views out of uint8 images, view i out of image `image_B[i]`, after shuffling its bands.

    A kernel of the same arithmetic reads `images`, `image`, `rows`, `columns` (taps, bands shuffled), `mean`,
    `std` (of pixels in [0, 1], per channel) and `shape` [B, C, H, W].

    Raises:
        ValueError: the images are not uint8, or the numbers of views, boxes and orders differ.
    """

    def __init__(
        self,
        images_MCHW: Tensor,
        image_B: np.ndarray,
        crops: AugmentParams,
        *,
        bands: BandOrders | None = None,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        if images_MCHW.dtype != torch.uint8:
            raise ValueError(f"views are cut out of uint8 images, got {images_MCHW.dtype}")
        if len(crops) != len(image_B) or (bands is not None and len(bands) != len(image_B)):
            raise ValueError(f"{len(image_B)} views and another number of boxes or orders of bands")
        _, channels, height, width = images_MCHW.shape
        self.images = images_MCHW.contiguous()
        self.image = torch.from_numpy(image_B)
        self.rows, self.columns = view_taps(crops, (height, width))
        if bands is not None:
            self.rows = _shuffled(self.rows, band_sources(bands.rows, height))
            self.columns = _shuffled(self.columns, band_sources(bands.columns, width))
        self.mean, self.std = (torch.tensor(values, dtype=torch.float32) for values in (mean, std))
        self.shape = (len(image_B), channels, height, width)

    @cached_property
    def _read(self) -> _Reads:
        device, (_, channels, height, width) = self.images.device, self.shape
        plane_BC1 = ((self.image[:, None] * channels + torch.arange(channels)) * height)[:, :, None]
        first, second = (plane_BC1 + tap[:, None] for tap in (self.rows.first, self.rows.second))
        return _Reads(
            lines=self.images.view(-1, width),
            rows=Taps(first.to(device), second.to(device), self.rows.weight.to(device)),
            columns=Taps(**{name: tap.to(device) for name, tap in vars(self.columns).items()}),
            mean=self.mean.view(-1, 1, 1).to(device),
            std=self.std.view(-1, 1, 1).to(device),
        )

    def parts(self) -> Iterator[slice]:
        """The views in parts that are best made together."""
        limit = _PIXELS_AT_ONCE.get(self.images.device.type, _PIXELS_ELSEWHERE)
        count, *image = self.shape
        step = max(1, limit // int(np.prod(image)))
        for first in range(0, count, step):
            yield slice(first, min(first + step, count))

    def empty(self) -> Tensor:
        return torch.empty(self.shape, device=self.images.device)

    def cut(self, part: slice, window: Window | None = None, *, out: Tensor | None = None) -> Tensor:
        """The views of a part, or one window of them, into `out` if given: float32 [B, C, h, w], normalised.

        On a CPU a pixel's bits depend neither on the other views nor on the window.
        """
        row0, row1, column0, column1 = window or Window(0, self.shape[2], 0, self.shape[3])
        read = self._read
        first, second = (
            _pixels_of(read.lines, tap[part, :, row0:row1]) for tap in (read.rows.first, read.rows.second)
        )
        stretched = _blend(first, second, read.rows.weight[part, None, row0:row1, None])
        shape = (*stretched.shape[:3], column1 - column0)
        first, second = (
            stretched.gather(3, tap[part, None, None, column0:column1].expand(shape))
            for tap in (read.columns.first, read.columns.second)
        )
        pixels = _blend(first, second, read.columns.weight[part, None, None, column0:column1])
        return torch.div(pixels.sub_(read.mean), read.std, out=out)


def _pixels_of(lines_RW: Tensor, line_BCh: Tensor) -> Tensor:
    lines = lines_RW.index_select(0, line_BCh.reshape(-1))
    return lines.to(torch.float32).div_(255).view(*line_BCh.shape, lines_RW.shape[1])


def _blend(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """first + (second - first) * weight, written over `second`. `augment` explains why it is no lerp."""
    return second.sub_(first).mul_(weight).add_(first)


def _shuffled(taps: Taps, source_BN: np.ndarray) -> Taps:
    source = torch.from_numpy(source_BN)
    return Taps(source.gather(1, taps.first), source.gather(1, taps.second), taps.weight)
