"""Shuffling the bands of whole images, which views do to what they cut."""

from __future__ import annotations

import torch
from torch import Tensor

from edc_ray.core.views.patch_shuffle import BandOrders, band_sources


def shuffle_bands(images_BCHW: Tensor, orders: BandOrders) -> Tensor:
    """Put the bands of each image into its own order."""
    height, width = images_BCHW.shape[-2:]
    columns_BW = torch.from_numpy(band_sources(orders.columns, width))
    rows_BH = torch.from_numpy(band_sources(orders.rows, height))
    shuffled = images_BCHW.gather(3, columns_BW[:, None, None, :].expand(images_BCHW.shape))
    return shuffled.gather(2, rows_BH[:, None, :, None].expand(images_BCHW.shape))
