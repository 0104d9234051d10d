"""The order of images and the notation of boxes in official label files."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from edc_ray.core.views.augment import AugmentParams


def official_relabel_orders(num_images: int, seed: int) -> Iterator[Tensor]:
    """Order of the images in each epoch of the official relabelling, without end.

    torch's RandomSampler draws two permutations an epoch and uses the first.
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randperm(num_images, generator=generator)
        torch.randperm(num_images, generator=generator)


def coordinates_from_views(views: AugmentParams, image_size: tuple[int, int]) -> Tensor:
    """float32 [B, 4] as the official label files hold a box: (top/W, left/H, height/W, width/H).

    The ImageNet programs cross the axes, the small ones do not; all their images are square.
    """
    boxes_B4 = torch.stack([views.top, views.left, views.height, views.width], dim=1)
    return (boxes_B4.double() / _divisors(image_size)).float()


def views_from_coordinates(
    coordinates_B4: Tensor, flip_B: Tensor, image_size: tuple[int, int]
) -> AugmentParams:
    """The views of an official label file. Exact for sizes 32, 64, 128 and 224."""
    boxes_B4 = (coordinates_B4.double() * _divisors(image_size)).round().long()
    top, left, height, width = boxes_B4.unbind(1)
    return AugmentParams(top, left, height, width, flip_B.bool())


def _divisors(image_size: tuple[int, int]) -> Tensor:
    height, width = image_size
    return torch.tensor([width, height, width, height], dtype=torch.float64)
