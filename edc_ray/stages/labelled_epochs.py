"""Labelled epochs kept in memory, so that students who see the same views do not label them again."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import numpy as np

MEMORY_LIMIT = 1 << 30
"""Bytes of labels that one process keeps."""


class LabelledEpochs:
    """Labels of one row's epochs by a key that names all they depend on.

    Epochs are asked for in the same order again and again, so what came first is kept until the limit is
    reached: dropping the oldest would drop each epoch just before it is asked for. Another row begins anew.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int = MEMORY_LIMIT) -> None:
        self._limit = limit
        self._row: Hashable = None
        self._kept: dict[Hashable, np.ndarray] = {}

    def get(self, row: Hashable, epoch: Hashable, label: Callable[[], np.ndarray]) -> np.ndarray:
        """The labels of an epoch of a row: those that are kept, else made now. Nobody may change them."""
        if row != self._row:
            self._row, self._kept = row, {}
        if epoch in self._kept:
            return self._kept[epoch]
        labels = label()
        if labels.nbytes + sum(kept.nbytes for kept in self._kept.values()) <= self._limit:
            self._kept[epoch] = labels
        return labels
