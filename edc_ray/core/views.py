"""The augmented, mixed views of one epoch, as parameters that are drawn once and replayed anywhere.

N images, one view each; a row pastes or blends in the un-mixed view of another row of its mixing group.
Relabelling draws and renders; training only renders. Both see the same bits, whatever their batches are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from edc_ray.core.augment import AugmentParams, apply_views, sample_views
from edc_ray.core.mixing import apply_cutmix_rows, apply_mixup_rows, sample_cutmix, sample_mixup
from edc_ray.core.pixels import from_uint8, normalise
from edc_ray.core.seeding import draws

Mix = Literal["none", "cutmix", "mixup"]


@dataclass(frozen=True)
class ViewSettings:
    """How views are drawn.

    crop_scale: smallest and largest share of the image's area.
    flip_probability: of mirroring; 0 where a mirrored image is another class.
    mix_alpha: both parameters of the Beta distribution of lam.
    mix_group: images that share one box or lam, and among which partners are chosen.
    """

    crop_scale: tuple[float, float] = (0.5, 1.0)
    flip_probability: float = 0.5
    mix: Mix = "cutmix"
    mix_alpha: float = 1.0
    mix_group: int = 100


@dataclass(frozen=True)
class EpochViews:
    """Parameters of one epoch's views, in the order of mixing groups.

    image: int64 [N], which image a row shows. group: int64 [N].
    crops: N boxes and flips. partner: int64 [N], the row that is mixed in.
    box: int64 [N, 4], (row0, row1, column0, column1) pasted of the partner; empty without CutMix.
    lam: float64 [N], share of the own view in a blend; as drawn with CutMix; 1 without mixing.
    """

    image: np.ndarray
    crops: AugmentParams
    mix: Mix
    group: np.ndarray
    partner: np.ndarray
    box: np.ndarray
    lam: np.ndarray

    def __len__(self) -> int:
        return len(self.image)


def draw_epoch_views(
    seed: int, epoch: int, keys: Sequence[tuple[int, int]], image_size: int, settings: ViewSettings
) -> EpochViews:
    """Draw the views of one epoch.

    Args:
        seed: root seed.
        epoch: from 0.
        keys: (class, ipc_id) of each image: its crop is drawn from the key and the epoch alone, so that more
            images or epochs change no other view's crop. Groups are dealt over all images.
        image_size: side of the images.
        settings: how.
    """
    count = len(keys)
    order = draws(seed, "views", "groups", epoch).permutation(count)
    streams = [draws(seed, "views", "crop", epoch, *keys[image]) for image in order]
    crops = sample_views(
        streams, count, image_size, settings.crop_scale, flip_probability=settings.flip_probability
    )
    group = np.arange(count, dtype=np.int64) // settings.mix_group
    partner = np.arange(count, dtype=np.int64)
    box, lam = np.zeros((count, 4), dtype=np.int64), np.ones(count)
    for number, first in enumerate(range(0, count, settings.mix_group) if settings.mix != "none" else ()):
        rows = slice(first, min(first + settings.mix_group, count))
        stream, size = draws(seed, "views", "mix", epoch, number), rows.stop - first
        if settings.mix == "cutmix":
            mixing = sample_cutmix(stream, size, image_size, image_size, settings.mix_alpha)
            box[rows] = mixing.box
        else:
            mixing = sample_mixup(stream, size, settings.mix_alpha)
        partner[rows] = first + mixing.partner.numpy()
        lam[rows] = mixing.lam
    return EpochViews(order.astype(np.int64), crops, settings.mix, group, partner, box, lam)


def render_views(
    images_MCHW: Tensor,
    views: EpochViews,
    rows: np.ndarray,
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> Tensor:
    """The mixed views of some rows: cropped and flipped as pixels in [0, 1], normalised, then mixed.

    Args:
        images_MCHW: uint8, any device; `views.image` indexes them.
        views: parameters.
        rows: int64 [B] rows of `views`.
        mean, std: per channel, of pixels in [0, 1].

    Returns:
        float32 [B, C, S, S]. On a CPU a row's bits do not depend on the other rows.
    """
    own = _unmixed(images_MCHW, views, rows, mean, std)
    if views.mix == "none":
        return own
    partners = _unmixed(images_MCHW, views, views.partner[rows], mean, std)
    if views.mix == "cutmix":
        return apply_cutmix_rows(own, partners, torch.from_numpy(views.box[rows]))
    return apply_mixup_rows(own, partners, views.lam[rows])


def _unmixed(
    images_MCHW: Tensor, views: EpochViews, rows: np.ndarray, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    chosen = torch.from_numpy(views.image[rows]).to(images_MCHW.device)
    pixels = from_uint8(images_MCHW[chosen])
    return normalise(apply_views(pixels, views.crops[torch.from_numpy(rows)]), mean, std)
