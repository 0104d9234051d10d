"""Batches of views, made ahead of the steps that use them and many at once, in bounded memory.

On a GPU a replayed step takes less than a millisecond, and the views of a batch start twenty kernels or more,
which takes as long. So there a thread makes the views of consecutive batches in one go, on a stream of its
own, and a step gets a slice. On a CPU each batch is made by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from torch import Tensor

from edc_ray.data.real.ahead import one_ahead
from edc_ray.stages.units.context import StageContext

CHUNK_BYTES = {"cuda": 256 << 20}
"""Bytes of float32 views that are made in one go, by the device's type; elsewhere one batch. Two such chunks
exist at a time."""
FORWARD_BYTES, FORWARD_IMAGES = {"cuda": 32 << 20}, 1024
"""Bytes of float32 images that fill a device in one forward, by its type; and images at most."""

Tensors = tuple[Tensor, ...]
Batches = tuple[Sequence[int], Callable[[range], Tensors]]
"""The sizes of batches, and what makes the tensors of consecutive ones, one row for each image."""


def rendered_batches(
    epochs: Iterable[Batches], context: StageContext, *, in_a_thread: bool = False
) -> Iterator[Tensors]:
    """The tensors of each batch, epoch after epoch.

    Args:
        epochs: read before their turn, in the caller's thread.
        in_a_thread: whether also a CPU makes the next batch in a thread, because it decodes images or waits
            for storage meanwhile.
    """
    most = views_at_once(context)

    def chunks() -> Iterator[tuple[Batches, range]]:
        for batches in epochs:
            for numbers in consecutive(batches[0], most):
                yield batches, numbers

    def made(chunk: tuple[Batches, range]) -> tuple[Tensors, list[int]]:
        (sizes, render), numbers = chunk
        return render(numbers), [sizes[number] for number in numbers]

    helped = in_a_thread or context.device.type == "cuda"
    for tensors, parts in one_ahead(made, chunks(), context.device) if helped else map(made, chunks()):
        yield from zip(*(each.split(parts) for each in tensors), strict=True)


def views_at_once(context: StageContext) -> int:
    """How many views are made in one go; 0 for those of one batch."""
    return CHUNK_BYTES.get(context.device.type, 0) // _view_bytes(context)


def images_of_a_forward(context: StageContext, least: int) -> int:
    """Images of one forward without gradients: `least`, or more where only more fill the device."""
    most = FORWARD_BYTES.get(context.device.type, 0) // _view_bytes(context)
    return max(least, min(most, FORWARD_IMAGES))


def consecutive(sizes: Sequence[int], most: int) -> Iterator[range]:
    """Cuts things of some sizes into runs of up to `most` in all, or of a single one."""
    first = total = 0
    for number, size in enumerate(sizes):
        if number > first and total + size > most:
            yield range(first, number)
            first, total = number, 0
        total += size
    if sizes:
        yield range(first, len(sizes))


def _view_bytes(context: StageContext) -> int:
    train = context.data.train
    return 4 * train.channels * train.image_size**2
