"""Labelled epochs: which one a student is shown, and those kept in memory, so that students who see the same
views do not label them again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np

from edc_ray.config.run import RunConfig
from edc_ray.core.seeding import draws

MEMORY_LIMIT = 1 << 30
"""Bytes of labels that one process keeps."""


def shown_epoch(config: RunConfig, number: int) -> int:
    """The labelled epoch that students see in an epoch of their training.

    The first pass shows the labelled epochs in their order. Where students train for more (evaluate.epochs),
    further passes show them again: in the same order, or (evaluate.epoch_reuse=shuffled) in an order drawn
    for the pass, the same for all rows and students. Batches are dealt again in every epoch of training.
    """
    labelled = config.relabel.epochs
    turn, place = divmod(number, labelled)
    if turn == 0 or config.evaluate.epoch_reuse == "in_turn":
        return place
    return int(draws(config.seed, "evaluate", "reuse", turn).permutation(labelled)[place])


class LabelledEpochs:
    """Labels of one row's epochs by a key that names all they depend on.

    Epochs are asked for in the same order again and again, so what came first is kept until the limit is
    reached: dropping the oldest would drop each epoch just before it is needed. Another row starts empty.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int = MEMORY_LIMIT) -> None:
        self._limit = limit
        self._row: Hashable = None
        self._kept: dict[Hashable, np.ndarray] = {}

    def get(self, row: Hashable, epoch: Hashable, label: Callable[[], np.ndarray]) -> np.ndarray:
        """The labels of an epoch of a row, kept or made now. Do not change them."""
        if row != self._row:
            self._row, self._kept = row, {}
        if epoch in self._kept:
            return self._kept[epoch]
        labels = label()
        if labels.nbytes + sum(kept.nbytes for kept in self._kept.values()) <= self._limit:
            self._kept[epoch] = labels
        return labels
