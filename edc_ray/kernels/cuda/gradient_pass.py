"""The pass backward over an input: derivatives of statistics, of a frozen BatchNorm and its activation.

The formulas are those of `core.layers.torch_kernels.coefficients` and of `TileWeights.spread`.
B images, C channels, H W pixels, R S rows and columns of tiles.
"""

# Kernels are written in Triton's language; its types are not Python's.
# pyright: basic, reportGeneralTypeIssues=false, reportOperatorIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportPossiblyUnboundVariable=false, reportIndexIssue=false
import triton
import triton.language as tl

from edc_ray.kernels.cuda.measuring_pass import SIZES, activation_slope, place_of_program, read


@triton.jit(do_not_specialize=SIZES)
def spreading(
    by_mean, by_variance, measured, row_weights, column_weights, maps,
    C, H, W, R, S, planes,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The parts of a pixel's derivative for stretched tiles: [5, H, W], see `TileWeights.spread`.

    by_mean, by_variance [R S]: derivatives by the tiles' moments, which `measured` has behind 2 C numbers.
    """
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < H * W
    row, column = pixel // W, pixel % W
    constant = tl.zeros([BLOCK], tl.float32)
    own = tl.zeros([BLOCK], tl.float32)
    right = tl.zeros([BLOCK], tl.float32)
    lower = tl.zeros([BLOCK], tl.float32)
    diagonal = tl.zeros([BLOCK], tl.float32)
    for u in range(R):
        vertical = row_weights + u * H + row
        value = tl.load(vertical, mask=inside, other=0.0)
        square = tl.load(vertical + R * H, mask=inside, other=0.0)
        product = tl.load(vertical + 2 * R * H, mask=inside, other=0.0)
        for v in range(S):
            tile = u * S + v
            variance_share = tl.load(by_variance + tile) / planes
            mean_share = tl.load(by_mean + tile) / planes
            mean_share -= 2 * tl.load(measured + 2 * C + tile) * variance_share
            variance_share *= 2
            horizontal = column_weights + v * W + column
            constant += mean_share * value * tl.load(horizontal, mask=inside, other=0.0)
            across = tl.load(horizontal + S * W, mask=inside, other=0.0)
            next_across = tl.load(horizontal + 2 * S * W, mask=inside, other=0.0)
            own += variance_share * square * across
            right += variance_share * square * next_across
            lower += variance_share * product * across
            diagonal += variance_share * product * next_across
    maps += pixel
    tl.store(maps, constant, mask=inside)
    tl.store(maps + H * W, own, mask=inside)
    tl.store(maps + 2 * H * W, right, mask=inside)
    tl.store(maps + 3 * H * W, lower, mask=inside)
    tl.store(maps + 4 * H * W, diagonal, mask=inside)


@triton.jit
def _neighbour(x, factors, place, factor_place, in_channels, there):
    """What a neighbour adds: itself times the pair's factor, which is at the pair's upper left corner."""
    factor = tl.load(factors + factor_place, mask=there, other=0.0)
    return factor[None, :] * read(x, place, in_channels & there[None, :])


@triton.jit
def _of_neighbours(x, maps, place, row, column, in_channels, pixel_step, H, W):
    """What the eight neighbours of pixels add."""
    pixel, inside, down = row * W + column, (row < H) & (column < W), W * pixel_step
    has_left, has_right = inside & (column > 0), inside & (column + 1 < W)
    has_upper, has_lower = inside & (row > 0), inside & (row + 1 < H)
    right, lower, diagonal = maps + 2 * H * W, maps + 3 * H * W, maps + 4 * H * W
    found = _neighbour(x, right, place + pixel_step, pixel, in_channels, has_right)
    found += _neighbour(x, right, place - pixel_step, pixel - 1, in_channels, has_left)
    found += _neighbour(x, lower, place + down, pixel, in_channels, has_lower)
    found += _neighbour(x, lower, place - down, pixel - W, in_channels, has_upper)
    # The factor of both diagonals is at the upper left of the four pixels that they connect.
    has, at = has_lower & has_right, place + down + pixel_step
    found += _neighbour(x, diagonal, at, pixel, in_channels, has)
    has, at = has_upper & has_left, place - down - pixel_step
    found += _neighbour(x, diagonal, at, pixel - W - 1, in_channels, has)
    has, at = has_lower & has_left, place + down - pixel_step
    found += _neighbour(x, diagonal, at, pixel - 1, in_channels, has)
    has, at = has_upper & has_right, place - down + pixel_step
    return found + _neighbour(x, diagonal, at, pixel - W, in_channels, has)


@triton.jit(do_not_specialize=SIZES)
def gradient_pass(
    x, upstream, result, scale, shift, measured, by_mean, by_variance, by_tile_mean, by_tile_variance, maps,
    C, H, W, S, side, image_step, pixel_step, count, planes, row_blocks, channel_blocks,
    BC: tl.constexpr, BR: tl.constexpr, BW: tl.constexpr, LAST: tl.constexpr, VECTOR: tl.constexpr,
    NORM: tl.constexpr, ACTIVATION: tl.constexpr, GIVEN: tl.constexpr, BY_MEAN: tl.constexpr,
    BY_VARIANCE: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Derivatives of a loss by x [B, C, H, W]; without tiles a map comes as H = pixels, W = 1.

    x as in `measuring_pass`; upstream and result have its layout, but dense. count: numbers of a channel in
    the batch; planes: B C. GIVEN, BY_MEAN and BY_VARIANCE: the derivatives by the result and by the channels'
    moments exist.
    """
    C = C // VECTOR * VECTOR
    image_step = image_step // VECTOR * VECTOR
    pixel_step = pixel_step // VECTOR * VECTOR if LAST else 1
    channel_step = 1 if LAST else H * W
    block, rows, image = place_of_program(tl.program_id(0), channel_blocks, row_blocks)
    x += image.to(tl.int64) * image_step
    upstream += image.to(tl.int64) * C * H * W
    result += image.to(tl.int64) * C * H * W
    channel = block * BC + tl.arange(0, BC)
    is_channel = channel < C
    q = tl.arange(0, BR * BW)
    row, column = rows * BR + q // BW, q % BW
    inside = (row < H) & (column < W)
    in_channels = is_channel[:, None]
    mask = in_channels & inside[None, :]
    pixel = row * W + column if TILES else row
    place = (channel * channel_step)[:, None] + (pixel * pixel_step)[None, :]
    dense_place = place if not LAST else channel[:, None] + (pixel * C)[None, :]
    here = read(x, place, mask)
    found = read(upstream, dense_place, mask) if GIVEN else tl.zeros([BC, BR * BW], tl.float32)
    if NORM:
        factor = tl.load(scale + channel, mask=is_channel, other=0.0)[:, None]
        constant = tl.load(shift + channel, mask=is_channel, other=0.0)[:, None]
        found *= factor * activation_slope(here * factor + constant, ACTIVATION)
    if BY_MEAN:
        found += (tl.load(by_mean + channel, mask=is_channel, other=0.0) / count)[:, None]
    if BY_VARIANCE:
        slope = tl.load(by_variance + channel, mask=is_channel, other=0.0) * (2 / count)
        mean = tl.load(measured + channel, mask=is_channel, other=0.0)
        found += slope[:, None] * (here - mean[:, None])
    if TILES == 1:
        tile = (row // side) * S + column // side
        # A tile's sums are over side * side pixels of each plane.
        share = 1 / (planes * (side * side).to(tl.float32))
        tile_mean = tl.load(measured + 2 * C + tile, mask=inside, other=0.0)
        by = tl.load(by_tile_mean + tile, mask=inside, other=0.0) * share
        turn = tl.load(by_tile_variance + tile, mask=inside, other=0.0) * (2 * share)
        found += by[None, :] + turn[None, :] * (here - tile_mean[None, :])
    if TILES == 2:
        found += tl.load(maps + pixel, mask=inside, other=0.0)[None, :]
        found += tl.load(maps + H * W + pixel, mask=inside, other=0.0)[None, :] * here
        found += _of_neighbours(x, maps, place, row, column, in_channels, pixel_step, H, W)
    tl.store(result + dense_place, found.to(result.dtype.element_ty), mask=mask)
