"""CutMix and MixUp as data: parameters are drawn on the CPU, stored with the labels and replayed.

B images, C channels, H W pixels. The images of an epoch are dealt into mixing groups; a group shares one
draw. A training batch may hold rows of several groups: each row brings its own parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edc_ray.core.seeding import Draws


@dataclass(frozen=True)
class CutMixParams:
    """One mixing group under CutMix: what lies inside the box comes from the partner."""

    partner: Tensor  # int64 [B], its position in the group
    box: tuple[int, int, int, int]  # (row0, row1, column0, column1), half open
    lam: float  # the Beta draw that set the box's size; clipping at the border does not change it


@dataclass(frozen=True)
class MixUpParams:
    """One mixing group under MixUp: image * lam + partner * (1 - lam). partner: int64 [B], as CutMix."""

    partner: Tensor
    lam: float


def sample_cutmix(draws: Draws, batch: int, height: int, width: int, alpha: float) -> CutMixParams:
    """Draw partners, lam of Beta(alpha, alpha) and the box's centre, in that order.

    Source:
        CutMix, Yun et al., ICCV 2019; one box and permutation a group as in SRe2L's and EDC's relabelling.
    """
    partner = torch.from_numpy(draws.permutation(batch))
    lam = draws.beta(alpha, alpha)
    centre = int(draws.integers(height)), int(draws.integers(width))
    return CutMixParams(partner, cutmix_box(height, width, lam, centre), lam)


def sample_mixup(draws: Draws, batch: int, alpha: float) -> MixUpParams:
    """Draw partners, then lam of Beta(alpha, alpha)."""
    partner = torch.from_numpy(draws.permutation(batch))
    return MixUpParams(partner, draws.beta(alpha, alpha))


def cutmix_box(height: int, width: int, lam: float, centre: tuple[int, int]) -> tuple[int, int, int, int]:
    """(row0, row1, column0, column1), half open, of a box around a centre (row, column).

    Its area is about (1 - lam) of the image, less what lies outside.
    """
    cut = math.sqrt(1.0 - lam)
    half_height, half_width = int(height * cut) // 2, int(width * cut) // 2
    row, column = centre
    return (
        max(row - half_height, 0),
        min(row + half_height, height),
        max(column - half_width, 0),
        min(column + half_width, width),
    )


def apply_cutmix_rows(images_BCHW: Tensor, partner_images_BCHW: Tensor, box_B4: Tensor) -> Tensor:
    """Paste into each float image its own box of its un-mixed partner.

    box_B4: integer (row0, row1, column0, column1). An empty box leaves the image as it is.
    """
    height, width = images_BCHW.shape[-2:]
    box_B4 = box_B4.to(images_BCHW.device)
    rows_H = torch.arange(height, device=box_B4.device)
    columns_W = torch.arange(width, device=box_B4.device)
    inside_BH = (rows_H >= box_B4[:, 0:1]) & (rows_H < box_B4[:, 1:2])
    inside_BW = (columns_W >= box_B4[:, 2:3]) & (columns_W < box_B4[:, 3:4])
    inside_B1HW = (inside_BH[:, :, None] & inside_BW[:, None, :])[:, None]
    return torch.where(inside_B1HW, partner_images_BCHW, images_BCHW)


def apply_mixup_rows(images_BCHW: Tensor, partner_images_BCHW: Tensor, lam_B: Tensor | np.ndarray) -> Tensor:
    """Blend each float image with its un-mixed partner by its own lam.

    lam_B: float64 as drawn. lam and 1 - lam are each rounded once, to the images' dtype.
    """
    lam_B = torch.as_tensor(lam_B, dtype=torch.float64, device="cpu")
    own, other = (weight_B.to(images_BCHW).reshape(-1, 1, 1, 1) for weight_B in (lam_B, 1.0 - lam_B))
    return images_BCHW * own + partner_images_BCHW * other
