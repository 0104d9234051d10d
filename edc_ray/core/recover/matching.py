"""How far the statistics of condensed images are from those of the real data.

The quantities of all layers of an observer are packed into one vector, so that the running estimate and the
distances take a few operations in each iteration instead of dozens for each layer.
D entries of the vector, Q quantities (2 a BatchNorm, 4 a convolution), T targets (global, class).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from edc_ray.core.layers.moments import LayerStatistics


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
        """The place of a layer's numbers among the D."""
        return _places({name: sum(lengths) for name, lengths in self.lengths.items()})

    @property
    def rows(self) -> dict[str, slice]:
        """The place of a layer's quantities among the Q."""
        return _places({name: len(lengths) for name, lengths in self.lengths.items()})


def _places(lengths: Mapping[str, int]) -> dict[str, slice]:
    ends = accumulate(lengths.values())
    return {name: slice(end - length, end) for (name, length), end in zip(lengths.items(), ends, strict=True)}


def updated_estimate(previous_D: Tensor, current_D: Tensor, history: Tensor | float) -> tuple[Tensor, Tensor]:
    """The value to match and the next state of a running average of packed statistics.

    The value is that of the new state, with the gradient of `current_D`. `history` is the weight of
    `previous_D`, of each entry or of all; 0 takes the batch as it is.

    Source:
        G-VBSM, Shao et al., CVPR 2024, and the official code of EDC.
    Deviations:
        the official code means to take the first batch as it is, but its test for it never holds, so it
        starts at 0: its first values are too small by the factor 1 - momentum. `edc` takes the first batch,
        `edc_official` starts at 0.
    """
    seen = current_D.detach()
    state = history * previous_D + (1 - history) * seen
    return current_D + (state - seen), state


def matching_distances(matched_D: Tensor, targets_DT: Tensor, lengths_Q: Tensor) -> Tensor:
    """L2 norm (not squared) of the difference from each target, quantity by quantity: [Q, T].

    The gradient of a norm is 0 where the difference is exactly 0.
    """
    squares_DT = (targets_DT - matched_D.unsqueeze(1)).square()
    sums_QT = torch.segment_reduce(squares_DT, "sum", lengths=lengths_Q, axis=0, unsafe=True)
    is_zero = sums_QT == 0
    # The inner 1 keeps the root's infinite slope at 0 out of the backward pass; a NaN stays a NaN.
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, sums_QT).sqrt())
