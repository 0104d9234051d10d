"""Crops and flips as data: parameters are drawn on the CPU and applied at any time, on any device.

B images, C channels, H W pixels. Sizes are (height, width).

`apply_views` gives each image its own box. It uses only elementwise operations, so that the bits of a view do
not depend on its batch. Labels are made and replayed with it. `apply_shared_view` gives the whole batch one
box through `F.interpolate`, which is faster. Images are recovered with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edc_ray.core.seeding import Draws, prefetch, uniform_rows

DEFAULT_RATIO = (3 / 4, 4 / 3)
_TRIES = 10
WORDS_PER_VIEW = 2 * _TRIES + 3  # area and aspect of each try; top, left, flip


@dataclass(frozen=True)
class AugmentParams:
    """Views of a batch: a box in pixels of the source image, then a horizontal flip. [B] on the CPU."""

    top: Tensor  # int64; top and left are negative if a padded crop begins outside
    left: Tensor
    height: Tensor
    width: Tensor
    flip: Tensor  # bool

    def __len__(self) -> int:
        return len(self.top)

    def __getitem__(self, rows: slice | Sequence[int] | Tensor) -> AugmentParams:
        """The views of some rows, in their order."""
        return AugmentParams(**{name: values[rows] for name, values in vars(self).items()})


def sample_views(
    draws: Draws | Sequence[Draws],
    batch: int | Sequence[int],
    image_size: int | tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float] = DEFAULT_RATIO,
    flip_probability: float = 0.5,
) -> AugmentParams:
    """Draw a resized crop and a flip for each image; after ten tries, the largest central box within `ratio`.

    Args:
        draws: one stream for each image, or one for the batch (row i takes the i-th 23 words of it).
        batch: number of images. Of several batches, each with one stream, the numbers of all: their views
            are then drawn together, and are those of each batch by itself.
        image_size: of the source images, one number for a square or (height, width).
        scale: smallest and largest share of the image's area.
        ratio: smallest and largest width / height of the box.

    Raises:
        ValueError: not one stream for each image or batch, or a range is not increasing and positive.

    Source:
        The arithmetic of torchvision's RandomResizedCrop, with our own draws in float64.
    """
    if not (0 < scale[0] <= scale[1] and 0 < ratio[0] <= ratio[1]):
        raise ValueError(f"scale and ratio must be positive and increasing, got {scale} and {ratio}")
    uniforms_BW = _uniform_rows(draws, batch, WORDS_PER_VIEW)
    boxes_B4 = _boxes_from_uniforms(uniforms_BW, _pair(image_size), scale, ratio)
    flip_B = torch.from_numpy(uniforms_BW[:, -1] < flip_probability)
    top, left, height, width = torch.from_numpy(boxes_B4).unbind(1)
    return AugmentParams(top, left, height, width, flip_B)


def sample_crop_pad(
    draws: Draws | Sequence[Draws],
    batch: int | Sequence[int],
    image_size: int | tuple[int, int],
    padding: int,
    flip_probability: float = 0.5,
) -> AugmentParams:
    """Pad each image by `padding` pixels on all sides, draw a crop of its own size out of it, and a flip.

    A stream for each image gives 3 words; one stream for the batch gives row i its i-th 3 words. Several
    batches are as in `sample_views`.

    Source:
        torchvision's RandomCrop(size, padding) and RandomHorizontalFlip.
    """
    uniforms_B3 = _uniform_rows(draws, batch, 3)
    corners_B2 = (uniforms_B3[:, :2] * (2 * padding + 1)).astype(np.int64) - padding
    top, left = torch.from_numpy(corners_B2).unbind(1)
    height, width = (torch.full((len(corners_B2),), side) for side in _pair(image_size))
    return AugmentParams(top, left, height, width, torch.from_numpy(uniforms_B3[:, 2] < flip_probability))


def apply_views(images_BCHW: Tensor, params: AugmentParams) -> Tensor:
    """Cut out each float image's own box, resize it to the image's size (two-tap bilinear), flip.

    Boxes lie inside the images; a ValueError if there is not one for each image. Differentiable. On a CPU the
    bits of a row depend only on that row.

    Deviations:
        Within 1e-6 of torchvision's resized_crop for values in [0, 1]; bits differ (order of the sums).
    """
    _check_length(images_BCHW, params)
    height, width = images_BCHW.shape[-2:]
    rows, columns = view_taps(params, (height, width))
    return _interpolate(_interpolate(images_BCHW, rows, axis=2), columns, axis=3)


@dataclass(frozen=True)
class Taps:
    """The two source positions of each pixel of views along one axis of length N."""

    first: Tensor  # int64 [B, N]
    second: Tensor
    weight: Tensor  # float32 [B, N], of the second


def view_taps(params: AugmentParams, image_size: tuple[int, int]) -> tuple[Taps, Taps]:
    """Taps of rows and of columns of views of images of (height, width)."""
    height, width = image_size
    return (
        _taps(params.top, params.height, height, torch.zeros_like(params.flip)),
        _taps(params.left, params.width, width, params.flip),
    )


def apply_shared_view(images_BCHW: Tensor, params: AugmentParams) -> Tensor:
    """Cut the same box out of all float images, resize it to their size, flip. Differentiable.

    Raises a ValueError if `params` is not one view.
    """
    if len(params) != 1:
        raise ValueError(f"a shared view is one view, got {len(params)}")
    top, left = int(params.top), int(params.left)
    box = images_BCHW[..., top : top + int(params.height), left : left + int(params.width)]
    size = (images_BCHW.shape[-2], images_BCHW.shape[-1])
    view = F.interpolate(box, size=size, mode="bilinear", align_corners=False)
    return view.flip(-1) if bool(params.flip) else view


def apply_crop_pad(images_BCHW: Tensor, params: AugmentParams, fill: Tensor | float = 0.0) -> Tensor:
    """Shift each float image by its own box (`sample_crop_pad`), then flip. A row's bits depend only on it.

    Raises a ValueError if there is not one box for each image.
    fill: value outside the image: 0 for pixels in [0, 1]; a tensor [C] of -mean / std for normalised images.
    """
    _check_length(images_BCHW, params)
    height, width = images_BCHW.shape[-2:]
    device = images_BCHW.device
    row_BH = (params.top[:, None] + torch.arange(height)).to(device)
    steps_BW = torch.arange(width).expand(len(params), -1)
    turned_BW = torch.where(params.flip[:, None], width - 1 - steps_BW, steps_BW)
    column_BW = (params.left[:, None] + turned_BW).to(device)
    inside_BH, inside_BW = (row_BH >= 0) & (row_BH < height), (column_BW >= 0) & (column_BW < width)
    picked = _pick(_pick(images_BCHW, row_BH.clamp(0, height - 1), 2), column_BW.clamp(0, width - 1), 3)
    inside_B1HW = (inside_BH[:, :, None] & inside_BW[:, None, :])[:, None]
    return torch.where(inside_B1HW, picked, torch.as_tensor(fill).to(picked).reshape(-1, 1, 1))


def _boxes_from_uniforms(
    uniforms_BW: np.ndarray, size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> np.ndarray:
    """(top, left, height, width) from 23 uniforms each, int64 [B, 4]. All images try at once.

    Only correctly rounded operations are numpy's: the last bit of its exp may depend on the other numbers.
    """
    image_height, image_width = size
    log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
    height, width = central_box(size, ratio)
    central = ((image_height - height) // 2, (image_width - width) // 2, height, width)
    boxes_B4 = np.tile(np.array(central, np.int64), (len(uniforms_BW), 1))
    open_rows = np.arange(len(uniforms_BW))
    for attempt in range(_TRIES):
        row_RW = uniforms_BW[open_rows]
        area_R = image_height * image_width * (scale[0] + (scale[1] - scale[0]) * row_RW[:, 2 * attempt])
        log_R = log_low + (log_high - log_low) * row_RW[:, 2 * attempt + 1]
        aspect_R = np.array([math.exp(value) for value in log_R.tolist()])
        width_R, height_R = np.rint(np.sqrt(area_R * aspect_R)), np.rint(np.sqrt(area_R / aspect_R))
        fits_R = (width_R > 0) & (width_R <= image_width) & (height_R > 0) & (height_R <= image_height)
        top_R = np.floor(row_RW[:, 2 * _TRIES] * (image_height - height_R + 1))
        left_R = np.floor(row_RW[:, 2 * _TRIES + 1] * (image_width - width_R + 1))
        found_R4 = np.stack([top_R, left_R, height_R, width_R], axis=1)
        boxes_B4[open_rows[fits_R]] = found_R4[fits_R].astype(np.int64)
        open_rows = open_rows[~fits_R]
        if not len(open_rows):
            break
    return boxes_B4


def central_box(size: tuple[int, int], ratio: tuple[float, float]) -> tuple[int, int]:
    """Height and width of the largest box with width / height within `ratio`, torchvision's fallback."""
    height, width = size
    if width / height < min(ratio):
        return round(width / min(ratio)), width
    if width / height > max(ratio):
        return height, round(height * max(ratio))
    return height, width


def _uniform_rows(draws: Draws | Sequence[Draws], batch: int | Sequence[int], count: int) -> np.ndarray:
    if isinstance(batch, Sequence):
        streams = [draws] if isinstance(draws, Draws) else draws
        if len(streams) != len(batch):
            raise ValueError(f"one stream for each batch: got {len(streams)} for {len(batch)} batches")
        prefetch(streams, count * max(batch))
        return np.concatenate([each.uniform(size, count) for each, size in zip(streams, batch, strict=True)])
    if isinstance(draws, Draws):
        return draws.uniform(batch, count)
    if len(draws) != batch:
        raise ValueError(f"one stream for each image: got {len(draws)} streams and {batch} images")
    return uniform_rows(draws, count)


def _taps(start_B: Tensor, extent_B: Tensor, size: int, flip_B: Tensor) -> Taps:
    """Taps of each output position, in float32 like torch's own kernels, so that the weights are equal."""
    step_N = torch.arange(size, dtype=torch.float32, device=start_B.device)
    step_BN = step_N.expand(len(start_B), -1)
    step_BN = torch.where(flip_B[:, None], size - 1 - step_BN, step_BN)
    extent_B1 = extent_B[:, None]
    position_BN = ((extent_B1.float() / size) * (step_BN + 0.5) - 0.5).clamp(min=0)
    # Rounding must not make a box reach outside.
    first_BN = torch.minimum(position_BN.floor().long(), extent_B1 - 1)
    second_BN = torch.minimum(first_BN + 1, extent_B1 - 1)
    weight_BN = (position_BN - first_BN).clamp(0, 1)
    start_B1 = start_B[:, None]
    return Taps(start_B1 + first_BN, start_B1 + second_BN, weight_BN)


def _interpolate(images_BCHW: Tensor, taps: Taps, axis: int) -> Tensor:
    first, second = (
        _pick(images_BCHW, each.to(images_BCHW.device), axis) for each in (taps.first, taps.second)
    )
    # Three separate operations: torch.lerp may fuse them for whole vectors but not for the rest of a row, and
    # then a pixel's bits would depend on its place in memory.
    return first + (second - first) * _spread(taps.weight.to(images_BCHW), axis)


def _pick(images_BCHW: Tensor, index_BN: Tensor, axis: int) -> Tensor:
    shape = list(images_BCHW.shape)
    shape[axis] = index_BN.shape[1]
    return images_BCHW.gather(axis, _spread(index_BN, axis).expand(shape))


def _spread(values_BN: Tensor, axis: int) -> Tensor:
    return values_BN[:, None, :, None] if axis == 2 else values_BN[:, None, None, :]


def _check_length(images_BCHW: Tensor, params: AugmentParams) -> None:
    if len(images_BCHW) != len(params):
        raise ValueError(f"{len(images_BCHW)} images and {len(params)} views")


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
