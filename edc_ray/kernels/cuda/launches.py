"""How the passes are cut into programs, and their weights on the device."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from edc_ray.core.layers.tile_weights import axis_weights
from edc_ray.kernels.cuda.measuring_pass import NOTHING, STRETCHED, WHOLE

_NUMBERS_A_PROGRAM = 2048
_NUMBERS_A_WARP = 256
# Cost of a program's beginning and end, in images of its loop (estimated from times on an H100).
_OVERHEAD, _OVERHEAD_IN_TILES = 3, 6


def power_of_two(number: int) -> int:
    """The smallest power of two that is at least this number."""
    return 1 << (number - 1).bit_length()


@dataclass(frozen=True)
class Tiles:
    """The tiles of a map: number of rows and columns; weights [3, R, H] and [3, S, W], float32."""

    kind: int
    rows: int
    columns: int
    row_weights: Tensor | None
    column_weights: Tensor | None

    @property
    def count(self) -> int:
        return self.rows * self.columns


@cache
def tiles_of(height: int, width: int, side: int | None, device: torch.device) -> Tiles:
    """The tiles of an [H, W] map; none without a side."""
    if side is None:
        return Tiles(NOTHING, 0, 0, None, None)
    axes = [axis_weights(length, side) for length in (height, width)]
    kind = STRETCHED if height % side or width % side else WHOLE
    rows, columns = (
        torch.stack([axis.value, axis.square, axis.product]).float().to(device).contiguous() for axis in axes
    )
    return Tiles(kind, rows.shape[1], columns.shape[1], rows, columns)


@dataclass(frozen=True)
class Cut:
    """An input as programs take it.

    images, channels, height, width: with tiles those of the map; else height counts all its pixels, in one
    column. block_*: what a program reads at a time, of `group_images` images one after the other.
    """

    images: int
    channels: int
    height: int
    width: int
    block_channels: int
    block_rows: int
    block_width: int
    group_images: int

    @property
    def groups(self) -> int:
        return -(-self.images // self.group_images)

    @property
    def channel_blocks(self) -> int:
        return -(-self.channels // self.block_channels)

    @property
    def row_blocks(self) -> int:
        return -(-self.height // self.block_rows)

    @property
    def warps(self) -> int:
        numbers = self.block_channels * self.block_rows * self.block_width
        return min(8, max(1, numbers // _NUMBERS_A_WARP))


@cache
def cut_of(
    images: int,
    channels: int,
    height: int,
    width: int,
    last: bool,
    *,
    in_tiles: bool,
    each: bool = False,
    processors: int = 132,
) -> Cut:
    """How an input [B, C, H, W] is cut; `each` keeps every image by itself.

    With channels last a block has whole sectors of memory of them, else few planes and long rows. Images are
    grouped so that few programs begin and all multiprocessors end at about the same time.
    """
    if not in_tiles:
        height, width = height * width, 1
    block_width = power_of_two(width)
    block_channels = min(power_of_two(channels), 32 if last else 8)
    block_rows = max(1, _NUMBERS_A_PROGRAM // (block_channels * block_width))
    block_rows = min(power_of_two(height), block_rows)
    blocks = -(-height // block_rows) * -(-channels // block_channels)
    at_once, overhead = processors * (2 if in_tiles else 4), _OVERHEAD_IN_TILES if in_tiles else _OVERHEAD

    def cost(group_images: int) -> int:
        programs = blocks * -(-images // group_images)
        return -(-programs // at_once) * (overhead + group_images)

    group_images = 1 if each else min(range(1, images + 1), key=cost)
    return Cut(images, channels, height, width, block_channels, block_rows, block_width, group_images)


@cache
def processors_of(device: torch.device) -> int:
    """Multiprocessors of a device; a fixed number on a CPU."""
    if device.type != "cuda":
        return 132
    return torch.cuda.get_device_properties(device).multi_processor_count


@dataclass(frozen=True)
class Lie:
    """How an input lies: channels last or planes; steps from image to image and from pixel to pixel."""

    last: bool
    image_step: int
    pixel_step: int

    def vector(self, channels: int) -> int:
        """The largest power of two up to 16 that divides the steps and the channels."""
        return math.gcd(16, self.image_step, self.pixel_step, channels) if self.last else 1


def lie_of(x_BCHW: Tensor) -> Lie | None:
    """How an input lies; None if no pass can read it in place.

    A pass can read some of the channels of a channels-last map in place. Maps of single pixels or single
    channels count as channels last.
    """
    _, channels, height, width = x_BCHW.shape
    steps = x_BCHW.stride()
    if x_BCHW.is_contiguous(memory_format=torch.channels_last):
        return Lie(True, channels * height * width, channels)
    if x_BCHW.is_contiguous():
        return Lie(False, channels * height * width, 1)
    pixel_step = steps[3] if width > 1 else steps[2]
    in_rows = width == 1 or height == 1 or steps[2] == width * steps[3]
    if steps[1] == 1 and in_rows and height * width > 1 and pixel_step >= channels:
        return Lie(True, steps[0], pixel_step)
    return None
