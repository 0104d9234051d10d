"""Codecs turn logits into a few numpy columns and back. N labels, K classes.

An artifact names its codec by a specification: see `core.labels.specification`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edc_ray.errors import NumericalError

ROWS_AT_ONCE = 4096  # labels that are coded together: bounds the memory of intermediate float64 arrays


@dataclass(frozen=True)
class EncodedLabels:
    """Soft labels in their stored form."""

    columns: Mapping[str, np.ndarray]  # numbers [N], packed bytes uint8 [N, bytes], or float16 [N, entries]
    num_classes: int
    shared: Mapping[str, np.ndarray] = field(default_factory=dict)  # of all labels of a table


class LabelCodec(Protocol):
    """Logits <-> columns. Every codec rounds logits to half precision first, so that a network's logits and
    the same logits stored as fp16 give the same columns."""

    @property
    def name(self) -> str:
        """The specification."""
        ...

    def encode(self, logits_NK: np.ndarray) -> EncodedLabels:
        """The columns to store.

        Raises:
            NumericalError: a logit is not finite, or half precision cannot hold it.
        """
        ...

    def decode(self, encoded: EncodedLabels) -> np.ndarray:
        """Logits, float32 [N, K].

        Raises:
            ValueError: columns that `encode` never makes.
        """
        ...


class Fp16Codec:
    """Half-precision floats in one column `logits`, float16 [N, K]. float16 logits come back exactly."""

    name = "fp16"

    def encode(self, logits_NK: np.ndarray) -> EncodedLabels:
        halves_NK = as_halves(logits_NK, self.name)
        return EncodedLabels({"logits": halves_NK}, halves_NK.shape[1])

    def decode(self, encoded: EncodedLabels) -> np.ndarray:
        return stored_column(encoded, "logits", np.float16, encoded.num_classes).astype(np.float32)


def as_halves(logits_NK: np.ndarray, codec: str) -> np.ndarray:
    """Logits as the nearest half-precision numbers.

    Raises:
        NumericalError: a logit is not finite or rounds to infinity (beyond 65519). Names its place.
    """
    with np.errstate(over="ignore"):
        halves_NK = np.asarray(logits_NK).astype(np.float16)
    wrong = ~np.isfinite(halves_NK)
    if wrong.any():
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        raise NumericalError(
            f"a soft label cannot be stored as {codec}",
            found=f"logit {np.asarray(logits_NK)[row, column]} of row {row}, class {column}",
            expected="finite logits of at most 65504",
        )
    return halves_NK


def stored_column(
    encoded: EncodedLabels, name: str, kind: type[np.generic], width: int | None = None
) -> np.ndarray:
    """A column, [N] or [N, width], checked against what `encode` makes.

    Raises:
        ValueError: it is missing, or of another type or shape, or not finite.
    """
    if name not in encoded.columns:
        raise ValueError(f"no column {name!r}")
    column = np.asarray(encoded.columns[name])
    return _checked(column, name, kind, (len(column),) if width is None else (len(column), width))


def shared_array(
    encoded: EncodedLabels, name: str, kind: type[np.generic], shape: tuple[int, ...]
) -> np.ndarray:
    """An array of the table, checked like `stored_column`."""
    if name not in encoded.shared:
        raise ValueError(f"no shared array {name!r}")
    return _checked(np.asarray(encoded.shared[name]), name, kind, shape)


def _checked(array: np.ndarray, name: str, kind: type[np.generic], shape: tuple[int, ...]) -> np.ndarray:
    if array.dtype != kind or array.shape != shape:
        raise ValueError(f"{name} is {array.dtype} {list(array.shape)} and not {kind.__name__} {list(shape)}")
    if np.issubdtype(kind, np.floating) and not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or Inf")
    return array


def in_blocks(function: Callable[[slice], dict[str, np.ndarray]], count: int) -> dict[str, np.ndarray]:
    """Columns of all rows; `function` makes those of ROWS_AT_ONCE rows at a time."""
    firsts = range(0, count, ROWS_AT_ONCE) or (0,)
    parts = [function(slice(first, min(first + ROWS_AT_ONCE, count))) for first in firsts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
