"""The pass forward over a layer's input: partial sums, and a frozen BatchNorm with its activation.

A program reads some rows of some channels of a group of images, each number once. It adds up over the images,
place by place, and combines the places at the end: for each channel the mean and the sum of squared
differences from it, for each row and column of tiles the weighted sums over its channels
(`core.layers.tile_weights`).
Programs share nothing, so their order changes no bit.
B images, C channels, H W pixels, R S rows and columns of tiles.
"""

# Triton reads the annotations of kernels when it defines them, so they must not be postponed here.
# Kernels are written in Triton's language; its types are not Python's.
# pyright: basic, reportGeneralTypeIssues=false, reportOperatorIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportPossiblyUnboundVariable=false, reportIndexIssue=false
import triton
import triton.language as tl

NOTHING, WHOLE, STRETCHED = 0, 1, 2  # kinds of tiles: none, of whole pixels, of a stretched map
ACTIVATIONS = {None: 0, "relu": 1, "relu6": 2, "silu": 3}
# Arguments of the kernels of layers: Triton must not compile a kernel for each of their values.
SIZES = ["images", "C", "H", "W", "R", "S", "side", "planes", "image_step", "pixel_step", "group_images"]
SIZES += ["groups", "row_blocks", "channel_blocks", "channel_programs"]


@triton.jit
def activated(y, ACTIVATION: tl.constexpr):
    """The activation of y; NaN passes."""
    if ACTIVATION == 1:
        return tl.where(y < 0, 0.0, y)
    if ACTIVATION == 2:
        return tl.where(y < 0, 0.0, tl.where(y > 6, 6.0, y))
    if ACTIVATION == 3:
        return y / (1 + tl.exp(-y))
    return y


@triton.jit
def activation_slope(y, ACTIVATION: tl.constexpr):
    """The derivative of the activation at y; NaN passes."""
    if ACTIVATION == 1:
        return tl.where(y <= 0, 0.0, tl.where(y > 0, 1.0, y))
    if ACTIVATION == 2:
        return tl.where((y <= 0) | (y >= 6), 0.0, tl.where(y > 0, 1.0, y))
    if ACTIVATION == 3:
        gate = 1 / (1 + tl.exp(-y))
        return gate * (1 + y * (1 - gate))
    return tl.where(y == y, 1.0, y)


@triton.jit
def read(x, place, mask):
    """In float32; 0 outside."""
    return tl.load(x + place, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _centre(x, C, channel_step, COUNT: tl.constexpr):
    """A number near an image's mean: that of its first channels' first pixels."""
    channel = tl.arange(0, COUNT)
    first = tl.load(x + channel * channel_step, mask=channel < C, other=0.0).to(tl.float32)
    return tl.sum(first, 0) / tl.minimum(C, COUNT)


@triton.jit
def place_of_program(program, channel_blocks, row_blocks):
    """Numbers of the block of channels, of the block of rows, and of the group of images."""
    rest = program // channel_blocks
    return program % channel_blocks, rest % row_blocks, rest // row_blocks


@triton.jit
def _store_channels(out, near, sums, squares, channel, C, count):
    """Of each channel the mean, and the sum of squared differences from it."""
    total = tl.sum(sums, 1)
    tl.store(out + channel, tl.sum(near, 1) + total / count, mask=channel < C)
    tl.store(out + C + channel, tl.sum(squares, 1) - total * total / count, mask=channel < C)


@triton.jit
def _store_tiles(
    out, column_weights, sums, squares, by_right, by_lower, crossed, near, centre, mask, images, first_row,
    row, column, H, W, S, BR: tl.constexpr, BW: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Of each row and column of tiles the weighted sums, from sums [BC, BR BW] over so many images."""
    # Turns differences from the channel's own number into those from one number for all channels.
    away = tl.where(mask, near - centre, 0.0)
    values = tl.sum(sums + images * away, 0)
    own = tl.sum(squares + 2 * away * sums + images * away * away, 0)
    in_columns = column < W
    out_row = first_row + tl.arange(0, BR)
    in_rows = out_row < H
    if TILES == 2:
        # Sums where there is no neighbour do not count.
        has_right, has_lower = (column + 1 < W)[None, :] & mask, (row + 1 < H)[None, :] & mask
        right_sums = tl.sum(tl.where(has_right, by_right, 0.0), 0)
        lower_sums = tl.sum(tl.where(has_lower, by_lower, 0.0), 0)
        crossed_sums = tl.sum(tl.where(has_right & has_lower, crossed, 0.0), 0)
    for tile in range(S):
        weights = column_weights + tile * W + column
        value = tl.load(weights, mask=in_columns, other=0.0)
        square = tl.load(weights + S * W, mask=in_columns, other=0.0)
        at = out + out_row * (3 * S) + tile
        tl.store(at, tl.sum(tl.reshape(values * value, (BR, BW)), 1), mask=in_rows)
        if TILES == 2:
            # A second moment has each square once and every other product twice.
            product = tl.load(weights + 2 * S * W, mask=in_columns, other=0.0)
            level = own * square + 2 * right_sums * product
            down = 2 * lower_sums * square + 2 * crossed_sums * product
            tl.store(at + S, tl.sum(tl.reshape(level, (BR, BW)), 1), mask=in_rows)
            tl.store(at + 2 * S, tl.sum(tl.reshape(down, (BR, BW)), 1), mask=in_rows)
        else:
            tl.store(at + S, tl.sum(tl.reshape(own * square, (BR, BW)), 1), mask=in_rows)


# One kernel for all sizes: VECTOR alone, which divides C and the steps, decides how memory is read.
@triton.jit(do_not_specialize=SIZES)
def measuring_pass(
    x, result, scale, shift, channel_parts, tile_parts, centres, column_weights,
    images, C, H, W, S, image_step, pixel_step, group_images, row_blocks, channel_blocks,
    BC: tl.constexpr, BR: tl.constexpr, BW: tl.constexpr, LAST: tl.constexpr, VECTOR: tl.constexpr,
    NORM: tl.constexpr, ACTIVATION: tl.constexpr, MEASURED: tl.constexpr, TILES: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """See the file. Without tiles a map comes as H = pixels, W = 1.

    x [B, C, H, W]: channels last, `pixel_step` apart, or planes; result: the formula of x, dense.
    channel_parts [groups, row_blocks, 2, C]; tile_parts [groups, channel_blocks, H, 3, S]; centres [groups].
    column_weights [3, S, W], of values, squares, products with the next.
    BC channels, BR rows of BW >= W pixels at a time.
    """
    # Written so that Triton sees what divides them.
    C = C // VECTOR * VECTOR
    image_step = image_step // VECTOR * VECTOR
    pixel_step = pixel_step // VECTOR * VECTOR if LAST else 1
    channel_step = 1 if LAST else H * W
    block, row_block, group = place_of_program(tl.program_id(0), channel_blocks, row_blocks)
    first_image = group * group_images
    end_image = tl.minimum(images, first_image + group_images)
    channel, q = block * BC + tl.arange(0, BC), tl.arange(0, BR * BW)
    row, column = row_block * BR + q // BW, q % BW
    mask = (channel < C)[:, None] & ((row < H) & (column < W))[None, :]
    # Written so that Triton sees how pixels follow each other.
    pixel = row * W + column if TILES else row
    place = (channel * channel_step)[:, None] + (pixel * pixel_step)[None, :]
    source = x + first_image.to(tl.int64) * image_step
    if NORM:
        factor = tl.load(scale + channel, mask=channel < C, other=0.0)[:, None]
        constant = tl.load(shift + channel, mask=channel < C, other=0.0)[:, None]
        shown_place = place if not LAST else channel[:, None] + (pixel * C)[None, :]
    if MEASURED:
        rows = tl.minimum(BR, H - row_block * BR)
        near = tl.sum(read(source, place, mask), 1)[:, None] / (rows * W)
    if TILES:
        centre = _centre(source, C, channel_step, 32)
        if (block == 0) & (row_block == 0):
            tl.store(centres + group, centre)
    has_right, has_lower = mask & (column + 1 < W)[None, :], mask & (row + 1 < H)[None, :]
    zeros = tl.zeros([BC, BR * BW], tl.float32)
    sums, squares, by_right, by_lower, crossed = zeros, zeros, zeros, zeros, zeros
    target = result + first_image.to(tl.int64) * C * H * W
    for _ in tl.range(first_image, end_image, num_stages=STAGES):
        here = read(source, place, mask)
        if MEASURED:
            difference = here - near
            sums += difference
            squares += difference * difference
        if NORM:
            shown = activated(here * factor + constant, ACTIVATION)
            tl.store(target + shown_place, shown.to(result.dtype.element_ty), mask=mask)
        if TILES == 2:
            moved = here - centre
            right = read(source, place + pixel_step, has_right) - centre
            lower = read(source, place + W * pixel_step, has_lower) - centre
            diagonal = read(source, place + (W + 1) * pixel_step, has_right & has_lower) - centre
            by_right += moved * right
            by_lower += moved * lower
            crossed += moved * diagonal + right * lower
        source += image_step
        target += C * H * W
    shown_images = (end_image - first_image).to(tl.float32)
    if MEASURED:
        # Sums where there is no pixel do not count.
        sums, squares = tl.where(mask, sums, 0.0), tl.where(mask, squares, 0.0)
        out = channel_parts + (group * row_blocks + row_block).to(tl.int64) * 2 * C
        _store_channels(out, near, sums, squares, channel, C, shown_images * (rows * W))
    if TILES:
        _store_tiles(
            tile_parts + (group.to(tl.int64) * channel_blocks + block) * H * 3 * S, column_weights,
            sums, squares, by_right, by_lower, crossed, near, centre, mask, shown_images, row_block * BR, row,
            column, H, W, S, BR, BW, TILES,
        )  # fmt: skip
