"""Shuffling the cells of a mosaic, as data: orders are drawn on the CPU and applied anywhere.

B images, C channels, H W pixels, F bands. An image is cut into F bands of rows and F bands of columns; the
bands of columns change places, then those of rows, so that cells of one row stay in one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edc_ray.core.seeding import Draws, word_rows


@dataclass(frozen=True)
class BandOrders:
    """Which band stands at each place: int64 [B, F] for rows and for columns, on the CPU."""

    rows: np.ndarray
    columns: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, chosen: np.ndarray) -> BandOrders:
        """The orders of some images."""
        return BandOrders(self.rows[chosen], self.columns[chosen])


def sample_band_orders(streams: Sequence[Draws], factor: int) -> BandOrders:
    """Draw the order of columns, then of rows, for each image from its own stream: 2 x factor words."""
    words_B2F = word_rows(streams, 2 * factor).reshape(-1, 2, factor)
    drawn_B2F = np.argsort(words_B2F, axis=2, kind="stable").astype(np.int64)  # as Draws.permutation
    return BandOrders(rows=drawn_B2F[:, 1], columns=drawn_B2F[:, 0])


def shuffle_bands(images_BCHW: Tensor, orders: BandOrders) -> Tensor:
    """Put the bands of each image into its own order.

    Args:
        images_BCHW: any dtype and device.
        orders: one for each image; F is at most H and W.

    Returns:
        [B, C, H, W]: every pixel of the image at another place, and none lost. Where F does not divide a
        side, the last band is wider by the rest, wherever it then stands.

    Raises:
        ValueError: the number of orders is not the number of images, or there are more bands than pixels.

    Source:
        RDED, Sun et al., CVPR 2024: training shuffles the cells of the mosaics.
    Deviations:
        The official code re-uses a loop variable and so loses what a side leaves over; EDC's copy of it
        shuffles nothing.
    """
    if len(orders) != len(images_BCHW):
        raise ValueError(f"{len(images_BCHW)} images and {len(orders)} orders of their bands")
    height, width = images_BCHW.shape[-2:]
    columns_BW = torch.from_numpy(band_sources(orders.columns, width)).to(images_BCHW.device)
    rows_BH = torch.from_numpy(band_sources(orders.rows, height)).to(images_BCHW.device)
    shuffled = images_BCHW.gather(3, columns_BW[:, None, None, :].expand(images_BCHW.shape))
    return shuffled.gather(2, rows_BH[:, None, :, None].expand(images_BCHW.shape))


def band_sources(order_BF: np.ndarray, side: int) -> np.ndarray:
    """Source position of each position along a side, int64 [B, side].

    Raises:
        ValueError: there are more bands than pixels.
    """
    factor = order_BF.shape[1]
    if factor > side:
        raise ValueError(f"{factor} bands in {side} pixels")
    width = side // factor
    lengths_BF = np.where(order_BF == factor - 1, side - (factor - 1) * width, width)
    # Positions count on within a band; where another begins, they leap to its first one.
    ends_BF = np.cumsum(lengths_BF, axis=1)
    place_B1N = np.arange(side)[None, None, :]
    band_BN = (place_B1N >= ends_BF[:, :, None]).sum(axis=1)
    leap_BF = order_BF * width - (ends_BF - lengths_BF)
    return np.arange(side) + np.take_along_axis(leap_BF, band_BN, axis=1)
