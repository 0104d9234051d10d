"""The draws of the official programs that our stages do not repeat, from generators the caller gives.

The official programs draw from numpy's, torch's and Python's global generators. These functions read the same
numbers in the same order, so that the goldens show our formulas equal to theirs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edc_ray.core.views.augment import DEFAULT_RATIO, AugmentParams, central_box
from edc_ray.core.views.eight_bit_resize import resize_8_bit
from edc_ray.core.views.mixing import CutMixParams, MixUpParams, cutmix_box


def official_cutmix_box(
    lam: float, height: int, width: int, rng: np.random.RandomState
) -> tuple[int, int, int, int]:
    """CutMix box as (row0, row1, column0, column1); official files hold (row0, column0, row1, column1)."""
    centre_row = int(rng.randint(height))
    centre_column = int(rng.randint(width))
    return cutmix_box(height, width, lam, (centre_row, centre_column))


def official_cutmix(
    batch: int, height: int, width: int, alpha: float, generator: torch.Generator, rng: np.random.RandomState
) -> CutMixParams:
    """Permutation from torch; lam, then the centre, from numpy."""
    partner = torch.randperm(batch, generator=generator)
    lam = float(rng.beta(alpha, alpha))
    return CutMixParams(partner, official_cutmix_box(lam, height, width, rng), lam)


def official_mixup(
    batch: int, alpha: float, generator: torch.Generator, rng: np.random.RandomState
) -> MixUpParams:
    """Permutation from torch, lam from numpy."""
    partner = torch.randperm(batch, generator=generator)
    return MixUpParams(partner, float(rng.beta(alpha, alpha)))


def official_view(
    image_size: tuple[int, int],
    scale: tuple[float, float],
    generator: torch.Generator,
    ratio: tuple[float, float] = DEFAULT_RATIO,
    flip_probability: float = 0.5,
) -> AugmentParams:
    """One view as torchvision's RandomResizedCrop and then RandomHorizontalFlip draw it."""
    top, left, height, width = _official_box(image_size, scale, ratio, generator)
    flip = bool(torch.rand(1, generator=generator) < flip_probability)
    top_1, left_1, height_1, width_1 = torch.tensor([[top], [left], [height], [width]]).unbind(0)
    return AugmentParams(top_1, left_1, height_1, width_1, torch.tensor([flip]))


def official_replay(image_CHW: Tensor, view: AugmentParams, size: int) -> Tensor:
    """Cut one view out of an image, resize it with antialiasing to a square of `size`, flip.

    Args:
        image_CHW: float (the ImageNet programs) or uint8 (the programs that crop a Pillow image: Pillow's
            bytes).
        view: one view.
        size: side of the result.

    Returns:
        [C, size, size] of the same dtype.
    """
    top, left, height, width = (int(value) for value in (view.top, view.left, view.height, view.width))
    box_1CHW = image_CHW[None, :, top : top + height, left : left + width]
    if image_CHW.dtype == torch.uint8:
        resized = resize_8_bit(box_1CHW, (size, size))[0]
    else:
        resized = F.interpolate(box_1CHW, (size, size), mode="bilinear", align_corners=False, antialias=True)[
            0
        ]
    return resized.flip(-1) if bool(view.flip) else resized


def official_uniform_choices(
    classes: Sequence[int], pool_sizes: Sequence[int], rng: np.random.RandomState
) -> list[int]:
    """File index for each slot: the first of a fresh shuffle of its class's files; repeats are possible."""
    return [int(rng.permutation(pool_sizes[class_])[0]) for class_ in classes]


def official_counted_choices(
    classes: Sequence[int], pool_sizes: Sequence[int], rng: np.random.RandomState
) -> list[int]:
    """File index for each slot, less likely the more often it was chosen: softmax of minus the use counts."""
    used = {class_: np.ones(pool_sizes[class_]) for class_ in set(classes)}
    choices = []
    for class_ in classes:
        weights = np.exp(-used[class_])
        choice = int(rng.choice(pool_sizes[class_], p=weights / weights.sum()))
        used[class_][choice] += 1
        choices.append(choice)
    return choices


def _official_box(
    size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float], generator: torch.Generator
) -> tuple[int, int, int, int]:
    image_height, image_width = size
    log_ratio = torch.log(torch.tensor(ratio))
    for _ in range(10):
        area = image_height * image_width * torch.empty(1).uniform_(*scale, generator=generator).item()
        low, high = log_ratio.tolist()
        aspect = torch.exp(torch.empty(1).uniform_(low, high, generator=generator)).item()
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= image_width and 0 < height <= image_height:
            top = int(torch.randint(0, image_height - height + 1, (1,), generator=generator))
            left = int(torch.randint(0, image_width - width + 1, (1,), generator=generator))
            return top, left, height, width
    height, width = central_box(size, ratio)
    return (image_height - height) // 2, (image_width - width) // 2, height, width
