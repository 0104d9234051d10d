"""How soft labels are stored. N labels, K classes.

A codec turns logits into a few numpy columns and back. An artifact names its codec by the specification that
`label_codec` reads; `label_codec_names.py` says what may be written there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edc_ray.errors import NumericalError

ROWS_AT_ONCE = 4096
"""Labels that are coded together: bounds the memory of the float64 arrays between."""


@dataclass(frozen=True)
class EncodedLabels:
    """Soft labels as they are stored.

    Args:
        columns: name -> array whose first axis is N: numbers [N], packed bytes uint8 [N, bytes], or float16
            [N, entries].
        num_classes: K.
        shared: what all labels of a table have in common.
    """

    columns: Mapping[str, np.ndarray]
    num_classes: int
    shared: Mapping[str, np.ndarray] = field(default_factory=dict)


class LabelCodec(Protocol):
    """Logits <-> columns. Every codec begins with half-precision logits, so that what it makes of a network's
    logits is what it makes of those stored as fp16."""

    @property
    def name(self) -> str:
        """The specification."""
        ...

    def encode(self, logits_NK: np.ndarray) -> EncodedLabels:
        """What to store.

        Raises:
            NumericalError: a logit is not finite, or beyond half precision.
        """
        ...

    def decode(self, encoded: EncodedLabels) -> np.ndarray:
        """Logits, float32 [N, K].

        Raises:
            ValueError: columns that `encode` never makes.
        """
        ...

    def error_bound(self, logits_NK: np.ndarray) -> np.ndarray:
        """Largest |decoded - logits| there can be when these are encoded as one table, elementwise."""
        ...


class Fp16Codec:
    """Half-precision floats, one column `logits` of float16 [N, K]. What already is float16 comes back
    exactly."""

    name = "fp16"

    def encode(self, logits_NK: np.ndarray) -> EncodedLabels:
        """Round to the nearest half-precision number.

        Raises:
            NumericalError: a logit is not finite or rounds to infinity (beyond 65519).
        """
        halves_NK = as_halves(logits_NK, self.name)
        return EncodedLabels({"logits": halves_NK}, halves_NK.shape[1])

    def decode(self, encoded: EncodedLabels) -> np.ndarray:
        """Exact: every half-precision number is a float32."""
        return stored_column(encoded, "logits", np.float16, encoded.num_classes).astype(np.float32)

    def error_bound(self, logits_NK: np.ndarray) -> np.ndarray:
        """Half a unit in the last place: 2**-11 of the logit, 2**-25 below the normal numbers."""
        return np.maximum(np.abs(np.asarray(logits_NK, dtype=np.float64)) * 2.0**-11, 2.0**-25)


def as_halves(logits_NK: np.ndarray, codec: str) -> np.ndarray:
    """Logits as the nearest half-precision numbers.

    Raises:
        NumericalError: a logit is not finite or rounds to infinity; names its place.
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
    """A column, [N] or [N, width], as `encode` must have made it.

    Raises:
        ValueError: it is missing, or of another type or shape, or not finite.
    """
    if name not in encoded.columns:
        raise ValueError(f"no column {name!r}")
    column = np.asarray(encoded.columns[name])
    shape = (len(column),) if width is None else (len(column), width)
    if column.dtype != kind or column.shape != shape:
        raise ValueError(
            f"{name} is {column.dtype} {list(column.shape)} and not {kind.__name__} {list(shape)}"
        )
    if np.issubdtype(kind, np.floating) and not np.isfinite(column).all():
        raise ValueError(f"{name} holds NaN or Inf")
    return column


def shared_array(
    encoded: EncodedLabels, name: str, kind: type[np.generic], shape: tuple[int, ...]
) -> np.ndarray:
    """An array of the table, as `encode` must have made it.

    Raises:
        ValueError: it is missing, or of another type or shape, or not finite.
    """
    if name not in encoded.shared:
        raise ValueError(f"no shared array {name!r}")
    array = np.asarray(encoded.shared[name])
    if array.dtype != kind or array.shape != shape:
        raise ValueError(f"{name} is {array.dtype} {list(array.shape)} and not {kind.__name__} {list(shape)}")
    if np.issubdtype(kind, np.floating) and not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or Inf")
    return array


def in_blocks(function: Callable[[slice], dict[str, np.ndarray]], count: int) -> dict[str, np.ndarray]:
    """Columns of all rows, made by `function` for ROWS_AT_ONCE of them at a time."""
    firsts = range(0, count, ROWS_AT_ONCE) or (0,)
    parts = [function(slice(first, min(first + ROWS_AT_ONCE, count))) for first in firsts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
