"""The view that changes nothing."""

from __future__ import annotations

import torch

from edc_ray.core.views.augment import AugmentParams


def whole_view(batch: int, height: int, width: int) -> AugmentParams:
    zero = torch.zeros(batch, dtype=torch.int64)
    return AugmentParams(zero, zero, zero + height, zero + width, zero.bool())
