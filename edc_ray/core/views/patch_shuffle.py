"""Shuffling the cells of a mosaic, as data: orders are drawn on the CPU and applied on any device.

B images, C channels, H W pixels, F bands. An image is cut into F bands of columns, which are shuffled, then
into F bands of rows, which are shuffled too. So the cells of one row stay in one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edc_ray.core.seeding import Draws, word_rows


@dataclass(frozen=True)
class BandOrders:
    """The band at each place: int64 [B, F] for rows and for columns, on the CPU."""

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


def band_sources(order_BF: np.ndarray, side: int) -> np.ndarray:
    """Source position of each position along a side, int64 [B, side], which has a pixel for each band."""
    factor = order_BF.shape[1]
    if factor > side:
        raise ValueError(f"{factor} bands in {side} pixels")
    width = side // factor
    lengths_BF = np.where(order_BF == factor - 1, side - (factor - 1) * width, width)
    # Within a band positions count up; at its end they jump to the first position of the next band.
    ends_BF = np.cumsum(lengths_BF, axis=1)
    place_B1N = np.arange(side)[None, None, :]
    band_BN = (place_B1N >= ends_BF[:, :, None]).sum(axis=1)
    leap_BF = order_BF * width - (ends_BF - lengths_BF)
    return np.arange(side) + np.take_along_axis(leap_BF, band_BN, axis=1)
