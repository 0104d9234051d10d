"""The draws of the official programs, from generators the caller gives; for parity with published files only.

The official programs draw from numpy's, torch's and Python's global generators. These functions read the same
numbers in the same order from a `np.random.RandomState` or a `torch.Generator` and never touch a global one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edc_ray.core.views.augment import DEFAULT_RATIO, AugmentParams, central_box
from edc_ray.core.views.eight_bit_resize import resize_8_bit
from edc_ray.core.views.mixing import CutMixParams, MixUpParams, cutmix_box

CoordinateOrder = Literal["crossed", "straight"]


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


def coordinates_from_views(
    views: AugmentParams, image_size: tuple[int, int], order: CoordinateOrder = "crossed"
) -> Tensor:
    """float32 [B, 4] as the official label files hold a box.

    "crossed" is (top/W, left/H, height/W, width/H), as the ImageNet programs name the axes; "straight"
    divides rows by H and columns by W. They differ only where images are not square.
    """
    boxes_B4 = torch.stack([views.top, views.left, views.height, views.width], dim=1)
    return (boxes_B4.double() / _divisors(image_size, order)).float()


def views_from_coordinates(
    coordinates_B4: Tensor, flip_B: Tensor, image_size: tuple[int, int], order: CoordinateOrder = "crossed"
) -> AugmentParams:
    """The views of an official label file. Exact for sizes 32, 64, 128 and 224."""
    boxes_B4 = (coordinates_B4.double() * _divisors(image_size, order)).round().long()
    top, left, height, width = boxes_B4.unbind(1)
    return AugmentParams(top, left, height, width, flip_B.bool())


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


def official_relabel_orders(num_images: int, seed: int) -> Iterator[Tensor]:
    """Order of the images in each epoch of the official relabelling, without end.

    torch's RandomSampler draws two permutations an epoch and uses the first.
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randperm(num_images, generator=generator)
        torch.randperm(num_images, generator=generator)


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


def _divisors(image_size: tuple[int, int], order: CoordinateOrder) -> Tensor:
    height, width = image_size
    pair = (width, height) if order == "crossed" else (height, width)
    return torch.tensor(pair * 2, dtype=torch.float64)
