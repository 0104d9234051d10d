"""One step of Adam on pixels and their clipping, in one pass."""

# What stands in a kernel is Triton's language, in which types are not Python's.
# pyright: basic, reportGeneralTypeIssues=false, reportOperatorIssue=false, reportArgumentType=false
# pyright: reportCallIssue=false, reportPossiblyUnboundVariable=false, reportIndexIssue=false
import triton
import triton.language as tl


@triton.jit
def pixel_step(
    images, first_moment, second_moment, gradient, rates, low, high, total, channels, pixels,
    KEEP_FIRST: tl.constexpr, KEEP_SECOND: tl.constexpr, EPSILON: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """torch.optim.Adam's arithmetic. rates [2] float32: step size, and the root of the second correction.

    low, high [C]: bounds of pixels. All else [B, C, H, W] float32, contiguous.
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
    # NaN stays: it must be seen.
    x = tl.where(x < lowest, lowest, tl.where(x > highest, highest, x))
    tl.store(first_moment + place, m, mask=inside)
    tl.store(second_moment + place, v, mask=inside)
    tl.store(images + place, x, mask=inside)
