"""The passes over pixels: views of a box, their gradient, and a step of Adam.

A view is one box cut out of every image, resized to the image's size and flipped, with two taps an axis. The
numbers are those of `core.views.augment.apply_shared_view` up to rounding. But the box is on the device, and
no size changes from view to view, so that each replay of a captured step can show another view.
"""

# Kernels are written in Triton's language; its types are not Python's.
# pyright: basic, reportGeneralTypeIssues=false, reportOperatorIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportPossiblyUnboundVariable=false, reportIndexIssue=false
import triton
import triton.language as tl


@triton.jit
def _taps(output, begin, extent, length, flip):
    """Of output places: the two source places and the weight of the second, as in torch's interpolation."""
    step = tl.where(flip != 0, length - 1 - output, output).to(tl.float32)
    position = tl.maximum((extent.to(tl.float32) / length) * (step + 0.5) - 0.5, 0.0)
    first = tl.minimum(position.to(tl.int32), extent - 1)
    second = tl.minimum(first + 1, extent - 1)
    weight = tl.minimum(tl.maximum(position - first.to(tl.float32), 0.0), 1.0)
    return begin + first, begin + second, weight


@triton.jit
def view_pass(
    images, box, view, C, H, W, view_channel, view_pixel, BC: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """images [B, C, H, W], contiguous; view the same, in steps of its own; box [5] int32: top, left, height,
    width, flip."""
    image = tl.program_id(1).to(tl.int64) * C * H * W
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, BC)[:, None]
    mask = (channel < C) & (pixel < H * W)[None, :]
    top, left, height = tl.load(box), tl.load(box + 1), tl.load(box + 2)
    width, flip = tl.load(box + 3), tl.load(box + 4)
    upper, lower, down = _taps(pixel // W, top, height, H, 0)
    near, far, across = _taps(pixel % W, left, width, W, flip)
    images += image + channel * (H * W)
    first = tl.load(images + (upper * W + near)[None, :], mask=mask, other=0.0)
    second = tl.load(images + (upper * W + far)[None, :], mask=mask, other=0.0)
    third = tl.load(images + (lower * W + near)[None, :], mask=mask, other=0.0)
    fourth = tl.load(images + (lower * W + far)[None, :], mask=mask, other=0.0)
    across, down = across[None, :], down[None, :]
    shown = (1 - down) * ((1 - across) * first + across * second)
    shown += down * ((1 - across) * third + across * fourth)
    tl.store(view + image + channel * view_channel + (pixel * view_pixel)[None, :], shown, mask=mask)


@triton.jit
def _reach(source, begin, extent, length):
    """The first and the last unflipped output place that can read a source place."""
    scale = length / extent.to(tl.float32)
    away = (source - begin).to(tl.float32)
    # An output reads up to one source place before and after its position; one more for rounding.
    low = tl.floor((away - 0.5) * scale - 0.5).to(tl.int32) - 1
    high = tl.ceil((away + 1.5) * scale - 0.5).to(tl.int32) + 1
    # Positions before the first source place are moved to it.
    low = tl.where(source == begin, 0, low)
    high = tl.where(source == begin + extent - 1, length - 1, high)
    return tl.maximum(low, 0), tl.minimum(high, length - 1)


@triton.jit
def _share(output, source, begin, extent, length):
    """The weight of a source place in an unflipped output place."""
    first, second, weight = _taps(output, begin, extent, length, 0)
    return tl.where(first == source, 1 - weight, 0.0) + tl.where(second == source, weight, 0.0)


@triton.jit
def view_gradient_pass(
    by_view, box, by_images, C, H, W, view_channel, view_pixel, out_channel, out_pixel,
    BC: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The transpose of `view_pass` along rows or along columns; one after the other they are all of it.

    Each pixel gathers from the outputs that read it, in their order. by_view and by_images [B, C, H, W], each
    in steps of its own; box as there.
    """
    image = tl.program_id(1).to(tl.int64) * C * H * W
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, BC)[:, None]
    is_channel = channel < C
    row, column = pixel // W, pixel % W
    if ROWS:
        begin, extent, place, length = tl.load(box), tl.load(box + 2), row, H
        flip = extent * 0
    else:
        begin, extent, place, length = tl.load(box + 1), tl.load(box + 3), column, W
        flip = tl.load(box + 4)
    inside = (pixel < H * W) & (place >= begin) & (place < begin + extent)
    low, high = _reach(place, begin, extent, length)
    outputs = tl.max(tl.where(inside, high - low + 1, 0), 0)
    found = tl.zeros([BC, BLOCK], tl.float32)
    by_view += image + channel * view_channel
    for step in range(outputs):
        output = low + step
        weight = tl.where(output <= high, _share(output, place, begin, extent, length), 0.0)
        shown = tl.where(flip != 0, length - 1 - output, output)
        at = shown * W + column if ROWS else row * W + shown
        # Some outputs within reach do not read this place; they are not loaded.
        there = is_channel & (inside & (weight != 0))[None, :]
        found += weight[None, :] * tl.load(by_view + (at * view_pixel)[None, :], mask=there, other=0.0)
    at = image + channel * out_channel + (pixel * out_pixel)[None, :]
    tl.store(by_images + at, found, mask=is_channel & (pixel < H * W)[None, :])


@triton.jit
def pixel_step(
    images, first_moment, second_moment, gradient, rates, low, high, total, channels, pixels,
    KEEP_FIRST: tl.constexpr, KEEP_SECOND: tl.constexpr, EPSILON: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """torch.optim.Adam's arithmetic, then clipping.

    rates [2] float32: step size, and the root of the second correction. low, high [C]: bounds of pixels. All
    else [B, C, H, W] float32, contiguous.
    """
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < total
    step, root = tl.load(rates), tl.load(rates + 1)
    g = tl.load(gradient + place, mask=inside, other=0.0)
    m = tl.load(first_moment + place, mask=inside, other=0.0)
    v = tl.load(second_moment + place, mask=inside, other=0.0)
    x = tl.load(images + place, mask=inside, other=0.0)
    m += (g - m) * (1 - KEEP_FIRST)
    v = v * KEEP_SECOND + g * g * (1 - KEEP_SECOND)
    x -= step * (m / (tl.sqrt(v) / root + EPSILON))
    channel = place // pixels % channels
    lowest = tl.load(low + channel, mask=inside, other=0.0)
    highest = tl.load(high + channel, mask=inside, other=0.0)
    # A NaN stays, so that the loop finds it.
    x = tl.where(x < lowest, lowest, tl.where(x > highest, highest, x))
    tl.store(first_moment + place, m, mask=inside)
    tl.store(second_moment + place, v, mask=inside)
    tl.store(images + place, x, mask=inside)
