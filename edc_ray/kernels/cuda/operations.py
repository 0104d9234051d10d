"""The passes as operations of torch: each counts as one, and a capture or a compiler takes it whole.

B images, C channels, H W pixels, P tiles. They have no derivatives of their own: their callers
(`core.layers.measured_input`, `core.layers.norm_activation`) know the derivatives.
"""

# A kernel is called with what Triton makes of it: the grid in brackets, the options of its compiler.
# pyright: reportCallIssue=false, reportIndexIssue=false
from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from edc_ray.kernels.cuda import plain_form
from edc_ray.kernels.cuda.adding_up import adding_up
from edc_ray.kernels.cuda.gradient_pass import gradient_pass, spreading
from edc_ray.kernels.cuda.launches import (
    Cut,
    Lie,
    Tiles,
    cut_of,
    lie_of,
    power_of_two,
    processors_of,
    tiles_of,
)
from edc_ray.kernels.cuda.measuring_pass import STRETCHED, measuring_pass
from edc_ray.kernels.cuda.registration import operation

_SPREAD_AT_A_TIME = 128
_STAGES = 3  # images whose numbers a measuring pass loads at the same time


def _laid_out(x_BCHW: Tensor) -> tuple[Tensor, Lie]:
    """An input as the passes take it, copied if they do not know its layout, and how it lies."""
    lie = lie_of(x_BCHW)
    if lie is None:
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        lie = Lie(True, math.prod(x_BCHW.shape[1:]), x_BCHW.shape[1])
    return x_BCHW, lie


def _format(lie: Lie) -> torch.memory_format:
    return torch.channels_last if lie.last else torch.contiguous_format


@dataclass(frozen=True)
class _Sums:
    """The sums of one pass."""

    cut: Cut
    tiles: Tiles
    channel_parts: Tensor
    tile_parts: Tensor | None
    centres: Tensor | None


Norm = tuple[Tensor, Tensor, int]  # scale, shift, and the activation's number


def _pass(
    x: Tensor, side: int | None, norm: Norm | None, *, measured: bool, each: bool
) -> tuple[Tensor | None, _Sums | None]:
    """The norm's result, and the sums."""
    x, lie = _laid_out(x)
    images, channels, height, width = x.shape
    tiles = tiles_of(height, width, side, x.device)
    cut = cut_of(
        images, channels, height, width, lie.last,
        in_tiles=bool(tiles.kind), each=each, processors=processors_of(x.device),
    )  # fmt: skip
    result = None if norm is None else torch.empty_like(x, memory_format=_format(lie))
    new = partial(torch.empty, dtype=torch.float32, device=x.device)
    sums = None
    if measured:
        tile_parts = centres = None
        if tiles.kind:
            tile_parts = new(cut.groups, cut.channel_blocks, cut.height, 3, tiles.columns)
            centres = new(cut.groups)
        sums = _Sums(cut, tiles, new(cut.groups, cut.row_blocks, 2, channels), tile_parts, centres)
    scale, shift, activation = (x, x, 0) if norm is None else norm
    parts = (None, None, None) if sums is None else (sums.channel_parts, sums.tile_parts, sums.centres)
    measuring_pass[(cut.groups * cut.row_blocks * cut.channel_blocks,)](
        x, _or(result, x), scale, shift, *(_or(each_part, x) for each_part in parts),
        _or(tiles.column_weights, x), images, channels, cut.height, cut.width, tiles.columns,
        lie.image_step, lie.pixel_step, cut.group_images, cut.row_blocks, cut.channel_blocks,
        BC=cut.block_channels, BR=cut.block_rows, BW=cut.block_width, LAST=lie.last,
        VECTOR=lie.vector(channels), NORM=norm is not None, ACTIVATION=activation, MEASURED=measured,
        TILES=tiles.kind, STAGES=_STAGES, num_warps=cut.warps,
    )  # fmt: skip
    return result, sums


def _add_up(sums: _Sums, dtype: torch.dtype, *, each: bool) -> Tensor:
    cut, tiles = sums.cut, sums.tiles
    parts = cut.images if each else 1
    groups = cut.groups // parts
    measured = sums.channel_parts.new_empty(parts, 2 * cut.channels + 2 * tiles.count, dtype=dtype)
    block_parts = min(128, power_of_two(groups * cut.row_blocks))
    block_channels = min(16, power_of_two(cut.channels))
    block_rows = power_of_two(-(-cut.height // tiles.rows) + 3) if tiles.kind else 1
    block_units = max(1, min(1024 // block_rows, power_of_two(groups * cut.channel_blocks)))
    programs = -(-cut.channels // block_channels)
    adding_up[(programs + tiles.count, parts)](
        sums.channel_parts, _or(sums.tile_parts, measured), _or(sums.centres, measured),
        _or(tiles.row_weights, measured), measured,
        cut.images, cut.channels, cut.height, cut.width, max(tiles.rows, 1), tiles.columns,
        cut.group_images, cut.groups, cut.row_blocks, cut.channel_blocks, programs,
        BP=block_parts, BC=block_channels, BU=block_units, BI=block_rows, BR=cut.block_rows,
        TILES=tiles.kind, num_warps=4,
    )  # fmt: skip
    return measured


def _or(tensor: Tensor | None, other: Tensor) -> Tensor:
    """A kernel never follows the pointer that replaces a missing tensor."""
    return other if tensor is None else tensor


def _fake_moments(x: Tensor, side: int, each: bool, dtype: torch.dtype) -> Tensor:
    tiles = -(-x.shape[2] // side) * -(-x.shape[3] // side) if side else 0
    return x.new_empty(x.shape[0] if each else 1, 2 * x.shape[1] + 2 * tiles, dtype=dtype)


def _fake_like(x: Tensor, *others: object) -> Tensor:
    lie = lie_of(x)
    planes = lie is not None and not lie.last
    return torch.empty_like(x, memory_format=torch.contiguous_format if planes else torch.channels_last)


def _fake_norm_moments(
    x: Tensor, scale: Tensor, shift: Tensor, activation: int, each: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    return _fake_like(x), _fake_moments(x, 0, each, dtype)


@operation(
    "moments",
    "(Tensor x, int side, bool each, ScalarType dtype) -> Tensor",
    plain_form.moments,
    _fake_moments,
)
def _moments(x: Tensor, side: int, each: bool, dtype: torch.dtype) -> Tensor:
    """Moments [1 or B, 2 C + 2 P] of the batch or of each image; side 0 is none."""
    _, sums = _pass(x, side or None, None, measured=True, each=each)
    assert sums is not None
    return _add_up(sums, dtype, each=each)


@operation(
    "norm", "(Tensor x, Tensor scale, Tensor shift, int activation) -> Tensor", plain_form.norm, _fake_like
)
def _norm(x: Tensor, scale: Tensor, shift: Tensor, activation: int) -> Tensor:
    """activation(scale x + shift)."""
    result, _ = _pass(x, None, (scale, shift, activation), measured=False, each=False)
    assert result is not None
    return result


@operation(
    "norm_moments",
    "(Tensor x, Tensor scale, Tensor shift, int activation, bool each, ScalarType dtype) -> (Tensor, Tensor)",
    plain_form.norm_moments,
    _fake_norm_moments,
)
def _norm_moments(
    x: Tensor, scale: Tensor, shift: Tensor, activation: int, each: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """activation(scale x + shift), and the moments [1 or B, 2 C] of x."""
    result, sums = _pass(x, None, (scale, shift, activation), measured=True, each=each)
    assert result is not None
    assert sums is not None
    return result, _add_up(sums, dtype, each=each)


def _gradient(
    x: Tensor, side: int | None, norm: Norm | None, upstream: Tensor | None, measured: Tensor | None,
    by: list[Tensor | None],
) -> Tensor:  # fmt: skip
    x, lie = _laid_out(x)
    images, channels, height, width = x.shape
    tiles = tiles_of(height, width, side, x.device) if any(each is not None for each in by[2:]) else None
    kind = tiles.kind if tiles else 0
    cut = cut_of(images, channels, height, width, lie.last, in_tiles=bool(kind))
    if upstream is not None:
        upstream = upstream.contiguous(memory_format=_format(lie))
    maps = None
    if tiles is not None:
        by[2:] = [measured.new_zeros(tiles.count) if each is None else each for each in by[2:]]  # type: ignore[union-attr]
        if kind == STRETCHED:
            maps = x.new_empty(5, height, width, dtype=torch.float32)
            spreading[(-(-height * width // _SPREAD_AT_A_TIME),)](
                by[2], by[3], measured, tiles.row_weights, tiles.column_weights, maps,
                channels, height, width, tiles.rows, tiles.columns, images * channels,
                BLOCK=_SPREAD_AT_A_TIME, num_warps=1,
            )  # fmt: skip
    result = torch.empty_like(x, memory_format=_format(lie))
    scale, shift, activation = (x, x, 0) if norm is None else norm
    gradient_pass[(images * cut.row_blocks * cut.channel_blocks,)](
        x, _or(upstream, x), result, scale, shift, _or(measured, x),
        _or(by[0], x), _or(by[1], x), _or(by[2], x), _or(by[3], x), _or(maps, x),
        channels, cut.height, cut.width, tiles.columns if tiles else 0, side or 1,
        lie.image_step, lie.pixel_step, float(images * height * width), float(images * channels),
        cut.row_blocks, cut.channel_blocks,
        BC=cut.block_channels, BR=cut.block_rows, BW=cut.block_width, LAST=lie.last,
        VECTOR=lie.vector(channels), NORM=norm is not None, ACTIVATION=activation, GIVEN=upstream is not None,
        BY_MEAN=by[0] is not None, BY_VARIANCE=by[1] is not None, TILES=kind, num_warps=cut.warps,
    )  # fmt: skip
    return result


_BY = "Tensor? by_mean, Tensor? by_variance"


@operation(
    "moments_gradient",
    f"(Tensor x, int side, Tensor measured, {_BY}, Tensor? by_tile_mean, Tensor? by_tile_variance, "
    "Tensor? upstream) -> Tensor",
    plain_form.moments_gradient,
    _fake_like,
)
def _moments_gradient(
    x: Tensor, side: int, measured: Tensor, by_mean: Tensor | None, by_variance: Tensor | None,
    by_tile_mean: Tensor | None, by_tile_variance: Tensor | None, upstream: Tensor | None,
) -> Tensor:  # fmt: skip
    """Derivatives by x, from those by its moments, added to `upstream`."""
    by = [by_mean, by_variance, by_tile_mean, by_tile_variance]
    return _gradient(x, side or None, None, upstream, measured, by)


@operation(
    "norm_gradient",
    "(Tensor x, Tensor scale, Tensor shift, int activation, Tensor? upstream, Tensor? measured, "
    f"{_BY}) -> Tensor",
    plain_form.norm_gradient,
    _fake_like,
)
def _norm_gradient(
    x: Tensor, scale: Tensor, shift: Tensor, activation: int, upstream: Tensor | None,
    measured: Tensor | None, by_mean: Tensor | None, by_variance: Tensor | None,
) -> Tensor:  # fmt: skip
    """Derivatives by x, from those by the norm's result and by the moments of x."""
    norm = (scale, shift, activation)
    return _gradient(x, None, norm, upstream, measured, [by_mean, by_variance, None, None])
