"""Class targets measured on a few real images of the batch's own classes ("local" category awareness)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from edc_ray.core.layers.moments import LayerStatistics, Moments
from edc_ray.core.recover.state import Observer


def local_class_targets(
    observers: Sequence[Observer], real_images_BCHW: Tensor, patch_side: int, *, chunk: int = 256
) -> dict[str, dict[str, LayerStatistics]]:
    """Statistics of real images of the batch's classes, as every observer's class target ("local").

    The images are normalised and have the labels of the batch, each R times. The result, observer name ->
    layer name -> statistics of all the images as one batch, depends on `chunk`, the images in one forward,
    only by rounding.
    """
    return {
        observer.name: _statistics_of(observer, real_images_BCHW, patch_side, chunk) for observer in observers
    }


@torch.no_grad()
def _statistics_of(
    observer: Observer, images: Tensor, patch_side: int, chunk: int
) -> dict[str, LayerStatistics]:
    total: dict[str, list[Moments]] = {}
    for part in images.split(chunk):
        _, statistics = observer.measured(part, patch_side)
        for name in observer.taps.names:
            quantities = statistics[name].quantities
            pairs = zip(quantities[0::2], quantities[1::2], strict=True)
            moments = [Moments(*pair, len(part)) for pair in pairs]
            if name in total:
                moments = [a.merge(b) for a, b in zip(total[name], moments, strict=True)]
            total[name] = moments
    return {
        name: LayerStatistics(*(quantity for each in moments for quantity in (each.mean, each.variance)))
        for name, moments in total.items()
    }
