"""Mixing one group of images by its parameters, from the functions that take a row of each image."""

from __future__ import annotations

import torch
from torch import Tensor

from edc_ray.core.views.mixing import CutMixParams, MixUpParams, apply_cutmix_rows, apply_mixup_rows


def mixed_group(images_BCHW: Tensor, params: CutMixParams | MixUpParams) -> Tensor:
    """The group's images, each mixed with its partner."""
    partners_BCHW = images_BCHW[params.partner]
    if isinstance(params, MixUpParams):
        lam_B = torch.full((len(images_BCHW),), params.lam, dtype=torch.float64)
        return apply_mixup_rows(images_BCHW, partners_BCHW, lam_B)
    return apply_cutmix_rows(images_BCHW, partners_BCHW, torch.tensor([params.box] * len(images_BCHW)))
