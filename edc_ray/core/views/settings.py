"""What decides the views of condensed images. No torch here: the section `relabel` is made of it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from edc_ray.core.settings import CropScale, Settings

Mix = Literal["none", "cutmix", "mixup"]


class RelabelSettings(Settings):
    """Settings of `draw_epoch_views`, except how often a view is mirrored: the dataset decides that."""

    crop_scale: CropScale = (0.5, 1.0)
    mix: Mix = "cutmix"
    mix_alpha: float = Field(
        default=1.0, gt=0, description="both parameters of the Beta distribution of a mix's share"
    )
    mix_group: int = Field(
        default=100, ge=1, description="images that share one mixing box, and exchange parts, as a batch does"
    )
    order_seed: int | None = Field(
        default=None,
        ge=0,
        description="images are dealt into groups in the order of the official sampler with this seed (its "
        "fkd_seed, 42); None: in an order of our own",
    )
    patch_shuffle: int = Field(
        default=1, ge=1, le=255, description="bands of rows and of columns that are shuffled; 1 shuffles none"
    )
    rand_augment: bool = Field(
        default=False, description="RandAugment (two operations of magnitude 9) before the crop"
    )
