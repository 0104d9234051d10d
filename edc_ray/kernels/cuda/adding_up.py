"""Combines the sums that `measuring_pass` has left.

C channels, H W pixels, R S rows and columns of tiles.
"""

# Kernels are written in Triton's language; its types are not Python's.
# pyright: basic, reportGeneralTypeIssues=false, reportOperatorIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportPossiblyUnboundVariable=false, reportIndexIssue=false
import triton
import triton.language as tl

from edc_ray.kernels.cuda.measuring_pass import SIZES


@triton.jit
def _add_channels(
    channel_parts, measured, channel, images, C, H, W, first_group, part_groups, part_images, group_images,
    row_blocks, BP: tl.constexpr, BC: tl.constexpr, BR: tl.constexpr,
):  # fmt: skip
    """Means and variances of channels of a part of the batch."""
    means = tl.zeros([BP, BC], tl.float64)
    seconds = tl.zeros([BP, BC], tl.float64)
    for start in range(0, part_groups * row_blocks, BP):
        index = start + tl.arange(0, BP)
        group, row_block = first_group + index // row_blocks, index % row_blocks
        rows = tl.minimum(BR, H - row_block * BR)
        group_size = tl.minimum(images, (group + 1) * group_images) - group * group_images
        mask = (index < part_groups * row_blocks)[:, None] & (channel < C)[None, :]
        place = (group * row_blocks + row_block).to(tl.int64)[:, None] * 2 * C + channel[None, :]
        mean = tl.load(channel_parts + place, mask=mask, other=0.0).to(tl.float64)
        spread = tl.load(channel_parts + place + C, mask=mask, other=0.0).to(tl.float64)
        count = (group_size * rows * W).to(tl.float64)[:, None]
        means += mean * count
        seconds += spread + mean * mean * count
    pixels = part_images.to(tl.float64) * H * W
    mean_C = tl.sum(means, 0) / pixels
    variance_C = tl.sum(seconds, 0) / pixels - mean_C * mean_C
    _store(measured + channel, mean_C, variance_C, C, channel < C)


@triton.jit
def _store(out, mean, variance, away, mask):
    """Stores both, the variance `away` behind the mean. Rounding must not make it negative."""
    variance = tl.where(variance < 0, 0.0, variance)
    tl.store(out, mean.to(out.dtype.element_ty), mask=mask)
    tl.store(out + away, variance.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _add_tile(
    tile_parts, centres, row_weights, measured, tile, images, C, H, R, S, first_group, part_groups,
    part_images, group_images, channel_blocks, BU: tl.constexpr, BI: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Mean and variance of one tile of a part of the batch."""
    u, v = tile // S, tile % S
    values = tl.zeros([BU, BI], tl.float64)
    squared = tl.zeros([BU, BI], tl.float64)
    near = tl.zeros([BU], tl.float64)
    near_squares = tl.zeros([BU], tl.float64)
    # Rows that can have a weight in this row of tiles, and one more on both sides.
    row = tl.maximum(u * H // R - 1, 0) + tl.arange(0, BI)
    in_rows = row < H
    weights = row_weights + u * H + row
    value = tl.load(weights, mask=in_rows, other=0.0).to(tl.float64)[None, :]
    square = tl.load(weights + R * H, mask=in_rows, other=0.0).to(tl.float64)[None, :]
    product = tl.load(weights + 2 * R * H, mask=in_rows, other=0.0).to(tl.float64)[None, :]
    units = part_groups * channel_blocks
    for start in range(0, units, BU):
        unit = start + tl.arange(0, BU)
        mask = (unit < units)[:, None] & in_rows[None, :]
        place = (first_group * channel_blocks + unit).to(tl.int64)[:, None] * H + row[None, :]
        place = place * 3 * S + v
        group = first_group + unit // channel_blocks
        centre = tl.load(centres + group, mask=unit < units, other=0.0).to(tl.float64)
        summed = tl.load(tile_parts + place, mask=mask, other=0.0).to(tl.float64) * value
        values += summed
        squared += tl.load(tile_parts + place + S, mask=mask, other=0.0).to(tl.float64) * square
        if TILES == 2:
            down = tl.load(tile_parts + place + 2 * S, mask=mask, other=0.0).to(tl.float64)
            squared += down * product
        squared += 2 * centre[:, None] * summed
        # Once for each group, not for each of its blocks of channels.
        size = tl.minimum(images, (group + 1) * group_images) - group * group_images
        counted = tl.where((unit < units) & (unit % channel_blocks == 0), centre * size, 0.0)
        near += counted
        near_squares += counted * centre
    planes = part_images.to(tl.float64) * C
    mean = tl.sum(tl.sum(values, 1), 0) / planes + tl.sum(near, 0) / part_images
    second = tl.sum(tl.sum(squared, 1), 0) / planes + tl.sum(near_squares, 0) / part_images
    _store(measured + 2 * C + tile, mean, second - mean * mean, R * S, True)


@triton.jit(do_not_specialize=SIZES)
def adding_up(
    channel_parts, tile_parts, centres, row_weights, measured,
    images, C, H, W, R, S, group_images, groups, row_blocks, channel_blocks, channel_programs,
    BP: tl.constexpr, BC: tl.constexpr, BU: tl.constexpr, BI: tl.constexpr, BR: tl.constexpr,
    TILES: tl.constexpr,
):  # fmt: skip
    """Moments of the batch, or of each of several parts of it, from those of their groups; in float64.

    measured [parts, 2 C + 2 R S]: mean and variance of channels, then of tiles. A program's second number is
    its part; it computes BC channels or one tile of it. row_weights [3, R, H]. images, groups: of the batch.
    It adds up BP sums of channels, or BU units of BI rows of tiles at a time; BR: rows of a block of
    `measuring_pass`.
    """
    program, part = tl.program_id(0), tl.program_id(1)
    part_groups = groups // tl.num_programs(1)
    first_group = part * part_groups
    part_images = tl.minimum(images, (first_group + part_groups) * group_images) - first_group * group_images
    measured += part.to(tl.int64) * (2 * C + 2 * R * S)
    if program < channel_programs:
        _add_channels(
            channel_parts, measured, program * BC + tl.arange(0, BC), images, C, H, W, first_group,
            part_groups, part_images, group_images, row_blocks, BP, BC, BR,
        )  # fmt: skip
    else:
        if TILES:
            _add_tile(
                tile_parts, centres, row_weights, measured, program - channel_programs, images, C, H, R, S,
                first_group, part_groups, part_images, group_images, channel_blocks, BU, BI, TILES,
            )  # fmt: skip
