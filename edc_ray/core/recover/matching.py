"""How far the statistics of condensed images are from those of the real data.

The quantities of all layers of an observer are packed side by side into one vector, so that the
running estimate and the distances cost a few operations an iteration instead of dozens a layer.
D entries of the vector, Q quantities (2 a BatchNorm, 4 a convolution), T targets (global, class).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.recover.settings import EstimateStart


@dataclass(frozen=True)
class LayerTarget:
    """Targets of one layer: of the whole training set, and one row per class ([K, ...])."""

    global_: LayerStatistics
    classes: LayerStatistics | None = None


def pack(layers: Iterable[LayerStatistics]) -> Tensor:
    """All quantities of all layers in one vector [D]."""
    return torch.cat([quantity for layer in layers for quantity in layer.quantities])


@dataclass(frozen=True)
class Layout:
    """The order of a packed vector: layer name -> lengths of its quantities."""

    lengths: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, layers: Mapping[str, LayerStatistics]) -> Layout:
        return cls({name: tuple(len(each) for each in layer.quantities) for name, layer in layers.items()})

    @property
    def flat_lengths(self) -> list[int]:
        return [length for lengths in self.lengths.values() for length in lengths]

    @property
    def quantity_layers(self) -> list[str]:
        """The layer of each of the Q quantities."""
        return [name for name, lengths in self.lengths.items() for _ in lengths]

    def unpack(self, vector_D: Tensor) -> dict[str, LayerStatistics]:
        """Views of a packed vector, layer by layer."""
        pieces = iter(vector_D.split(self.flat_lengths))
        return {
            name: LayerStatistics(*(next(pieces) for _ in lengths)) for name, lengths in self.lengths.items()
        }

    @property
    def entries(self) -> dict[str, slice]:
        """Where a layer's numbers stand among the D."""
        return _places({name: sum(lengths) for name, lengths in self.lengths.items()})

    @property
    def rows(self) -> dict[str, slice]:
        """Where a layer's quantities stand among the Q."""
        return _places({name: len(lengths) for name, lengths in self.lengths.items()})


def _places(lengths: Mapping[str, int]) -> dict[str, slice]:
    ends = accumulate(lengths.values())
    return {name: slice(end - length, end) for (name, length), end in zip(lengths.items(), ends, strict=True)}


@dataclass(frozen=True)
class RunningEstimate:
    """Running average of packed statistics, seen by the loss but transparent to its gradient.

    Args:
        momentum: weight of history, in [0, 1).
        start: "zero" as the official code (the first values are too small by the factor
            1 - momentum), or "first": the first batch is taken as it is.

    Source:
        G-VBSM, Shao et al., CVPR 2024, and the official code of EDC.
    Deviations:
        the official code means to take the first batch as it is, but its test for it never holds, so that
        it starts at 0; `edc` takes the first batch, `edc_official` starts at 0.
    """

    momentum: float
    start: EstimateStart = "zero"

    def step(
        self, previous: Tensor | None, current: Tensor, history: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One batch further.

        Args:
            previous: the state, without gradient; None before the first batch.
            current: statistics of this batch, same shape.
            history: weight of history of each entry, where it is not `momentum` for all.

        Returns:
            The value to match (that of the new state, with the gradient of `current`), and the new state.
        """
        seen = current.detach()
        if previous is None:
            previous = torch.zeros_like(seen) if self.start == "zero" else seen
        weight = self.momentum if history is None else history
        state = weight * previous + (1 - weight) * seen
        return current + (state - seen), state


def matching_distances(matched_D: Tensor, targets_DT: Tensor, lengths_Q: Tensor) -> Tensor:
    """L2 norm (not squared) of the difference from each target, quantity by quantity: [Q, T].

    The gradient of a norm is 0 where the difference is exactly 0.
    """
    squares_DT = (targets_DT - matched_D.unsqueeze(1)).square()
    sums_QT = torch.segment_reduce(squares_DT, "sum", lengths=lengths_Q, axis=0, unsafe=True)
    is_zero = sums_QT == 0
    # The inner 1 keeps the infinite slope of the root at 0 out of the backward pass; NaN passes through.
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, sums_QT).sqrt())
