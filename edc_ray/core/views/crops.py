"""Initial images made of crops of real ones: RDED and EDC's variant of it.

M source images, N crops of each, C channels, H W pixels, K classes, I images per class, S cells of a mosaic.

RDED cuts crops out of each image, keeps the best crop of each, and fills each condensed image with factor^2
of the best. EDC keeps the images that the observers know best, cuts shared crops out of groups of them, and
lets all crops compete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from edc_ray.core.labels.soft_labels import ensemble_logits
from edc_ray.core.pixels import from_uint8
from edc_ray.core.seeding import Draws
from edc_ray.core.views.augment import AugmentParams, apply_shared_view, sample_views
from edc_ray.core.views.eight_bit_resize import resize_8_bit

MosaicOrder = Literal["edc", "rded"]


def sample_crops(
    draws: Draws, num_crops: int, image_size: tuple[int, int], scale: tuple[float, float] = (0.08, 1.0)
) -> AugmentParams:
    """Square crops of one image, without flips (RDED)."""
    return sample_views(draws, num_crops, image_size, scale, ratio=(1.0, 1.0), flip_probability=0.0)


def cut_crops(image_CHW: Tensor, crops: AugmentParams, size: int) -> Tensor:
    """Cut boxes out of one image, resize each to a square with antialiasing, flip: float [N, C, size, size].

    Of a uint8 image only the boxes become floats, in [0, 1].

    Deviations:
        Programs that crop with Pillow round twice to 8 bits: up to a grey level.
    """
    cut = []
    for top, left, height, width, flip in zip(*(each.tolist() for each in vars(crops).values()), strict=True):
        box = image_CHW[None, :, top : top + height, left : left + width]
        crop = _resize(from_uint8(box) if box.dtype == torch.uint8 else box, (size, size), "bilinear")
        cut.append(crop.flip(-1) if flip else crop)
    return torch.cat(cut)


def pad_to_size(crops_NCHW: Tensor, size: int) -> Tensor:
    """Pad normalised crops with zeros to an observer's input size; an odd rest goes below and right."""
    height, width = crops_NCHW.shape[-2:]
    top, left = (size - height) // 2, (size - width) // 2
    return F.pad(crops_NCHW, (left, size - width - left, top, size - height - top))


@torch.no_grad()
def cross_entropy_of_each(
    images_NCHW: Tensor,
    labels_N: Tensor,
    observers: Sequence[Callable[[Tensor], Tensor]],
    input_size: int | None = None,
) -> Tensor:
    """Cross entropy of the observers' mean logits: how well they know each image. [N], no gradient.

    The observers are forwards of networks in eval mode. `input_size` zero-pads the normalised images to it
    first (RDED); None gives them as they are (EDC).
    """
    inputs = images_NCHW if input_size is None else pad_to_size(images_NCHW, input_size)
    logits_NK = ensemble_logits([observer(inputs) for observer in observers])
    return F.cross_entropy(logits_NK, labels_N, reduction="none")


def best_crop_of_each(crops_MNCHW: Tensor, losses_MN: Tensor) -> tuple[Tensor, Tensor]:
    """Each image's crop of least loss, on a tie the first: crops [M, C, H, W] and losses [M]."""
    best_M = losses_MN.argmin(1)
    rows_M = torch.arange(len(best_M), device=best_M.device)
    return crops_MNCHW[rows_M, best_M], losses_MN[rows_M, best_M]


def lowest_losses(losses_M: Tensor, count: int) -> Tensor:
    """Indices of the `count` smallest losses, ascending, ties in their order; all M if M is less."""
    return losses_M.argsort(stable=True)[:count]


def shared_crop_candidates(
    images_MCHW: Tensor,
    draws: Draws,
    *,
    group_size: int = 64,
    num_crops: int = 4,
    scale: tuple[float, float] = (0.08, 1.0),
    flip_probability: float = 0.5,
    keep_last: bool = False,
) -> Iterator[Tensor]:
    """Candidates of one class: each group of images gets `num_crops` shared crops and flips.

    Args:
        images_MCHW: float, the one of lowest loss first.
        draws: of the class; taken in the order of groups, then crops.
        scale: smallest and largest share of the area.
        keep_last: also crop the last group if it is smaller.

    Yields:
        [group, C, H, W], one for each crop of each group.

    Source:
        EDC, official code; it leaves the last M mod 64 images out.
    Deviations:
        none but `keep_last`. The official code stores each crop under its rounded loss, so that the second of
        two crops with equal losses replaces the first; we keep both. `edc` crops each image by itself and
        keeps its best crop, for more variety.
    """
    height, width = images_MCHW.shape[-2:]
    for group in images_MCHW.split(group_size):
        if len(group) < group_size and not keep_last:
            return
        for _ in range(num_crops):
            view = sample_views(draws, 1, (height, width), scale, flip_probability=flip_probability)
            yield apply_shared_view(group, view)


def mosaic_ranks(images_per_class: int, num_cells: int, order: MosaicOrder) -> Tensor:
    """Rank of the crop of each cell, [I, S]: S*i + j ("edc") or j*I + i ("rded") in cell j of image i."""
    ranks = torch.arange(images_per_class * num_cells)
    if order == "edc":
        return ranks.reshape(images_per_class, num_cells)
    if order == "rded":
        return ranks.reshape(num_cells, images_per_class).T
    raise ValueError(f"order must be 'edc' or 'rded', got {order!r}")


def assemble_mosaics(
    crops_NCHW: Tensor,
    images_per_class: int,
    size: int,
    *,
    factor: int = 2,
    order: MosaicOrder = "edc",
    resize: Literal["nearest", "bilinear"] = "bilinear",
) -> Tensor:
    """Put factor^2 crops into each image, row by row: [I, C, size, size] of the crops' dtype.

    The first size mod factor rows and columns of cells are one pixel larger.

    Args:
        crops_NCHW: crops of one class, best first; float or uint8. N >= images_per_class * factor^2.
        order: see `mosaic_ranks`.
        resize: "bilinear" with antialiasing (EDC; 8-bit crops give Pillow's bytes) or "nearest" (RDED).

    Raises:
        ValueError: too few crops, or an unknown order.
    """
    if len(crops_NCHW) < images_per_class * factor**2:
        raise ValueError(f"{len(crops_NCHW)} crops for {images_per_class} mosaics of {factor**2}")
    ranks_IS = mosaic_ranks(images_per_class, factor**2, order).to(crops_NCHW.device)
    sides = [size // factor + (cell < size % factor) for cell in range(factor)]
    rows = []
    for row, height in enumerate(sides):
        cells = [crops_NCHW[ranks_IS[:, row * factor + column]] for column in range(factor)]
        resized = [_resize(cell, (height, width), resize) for cell, width in zip(cells, sides, strict=True)]
        rows.append(torch.cat(resized, dim=3))
    return torch.cat(rows, dim=2)


def _resize(images_NCHW: Tensor, size: tuple[int, int], mode: Literal["nearest", "bilinear"]) -> Tensor:
    if images_NCHW.shape[-2:] == size:
        return images_NCHW
    if mode == "nearest":
        return F.interpolate(images_NCHW, size, mode="nearest")
    if images_NCHW.dtype == torch.uint8:
        return resize_8_bit(images_NCHW, size)
    return F.interpolate(images_NCHW, size, mode="bilinear", align_corners=False, antialias=True)
