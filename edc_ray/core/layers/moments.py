"""Means and variances of activations, per channel and per patch position.

B images, C channels, H W pixels, K classes, P patches. Every variance is biased (divisor N) and made of
differences from a mean near by: exact also for means far from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor


@dataclass(frozen=True)
class Moments:
    """Mean and biased variance of `count` values, elementwise over any shape."""

    mean: Tensor
    variance: Tensor
    count: int | Tensor

    def merge(self, other: Moments) -> Moments:
        """Moments of both sets of values together (Chan, Golub and LeVeque 1979)."""
        count = self.count + other.count
        share = other.count / count
        difference = other.mean - self.mean
        mean = self.mean + difference * share
        within = self.variance + (other.variance - self.variance) * share
        return Moments(mean, within + difference.square() * share * (1 - share), count)


@dataclass(frozen=True)
class LayerStatistics:
    """The statistics of one layer's input that are matched; a BatchNorm has no patches.

    A leading K means one row per class, a leading B one row per image.
    """

    channel_mean: Tensor  # [..., C]
    channel_variance: Tensor
    patch_mean: Tensor | None = None  # [..., P]
    patch_variance: Tensor | None = None

    @property
    def quantities(self) -> tuple[Tensor, ...]:
        """The two or four tensors, in the order of the fields."""
        return tuple(each for each in vars(self).values() if each is not None)

    def map(self, change: Callable[[Tensor], Tensor]) -> LayerStatistics:
        """The same statistics with every tensor changed."""
        return LayerStatistics(*(change(each) for each in self.quantities))

    def mean_over(self, labels: Tensor) -> LayerStatistics:
        """Rows [K, ...] averaged over labels [B], each as often as it occurs."""
        return self.map(lambda rows: rows[labels.to(rows.device)].mean(0))


def joined(
    parts: Sequence[Mapping[str, LayerStatistics]], counts: Sequence[int], dtype: torch.dtype
) -> dict[str, LayerStatistics]:
    """The statistics of a batch, by layer, from those of its parts with so many images each.

    They are joined in `dtype`, all layers at once. Differentiable.
    """
    rows = [(_row(part.values(), 0).to(dtype), _row(part.values(), 1).to(dtype)) for part in parts]
    whole = reduce(Moments.merge, (Moments(*row, n) for row, n in zip(rows, counts, strict=True)))
    first = [quantity for layer in parts[0].values() for quantity in layer.quantities[::2]]
    mean, variance = (
        iter(row.to(first[0].dtype).split([len(each) for each in first]))
        for row in (whole.mean, whole.variance)
    )
    return {
        name: LayerStatistics(*(next(row) for _ in layer.quantities[::2] for row in (mean, variance)))
        for name, layer in parts[0].items()
    }


def _row(layers: Iterable[LayerStatistics], kind: int) -> Tensor:
    """All means (kind 0) or all variances (1) in one vector."""
    return torch.cat([quantity for layer in layers for quantity in layer.quantities[kind::2]])
