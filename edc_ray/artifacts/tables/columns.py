"""Columns of a table from numpy arrays, and back. N rows of M entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def plain_column(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    """A column of a type; a ValueError if the type cannot hold a value."""
    if pa.types.is_dictionary(kind):
        return pa.array(np.asarray(values).tolist(), pa.string()).dictionary_encode().cast(kind)
    return pa.array(np.asarray(values), kind)


def lists_column(values_NM: np.ndarray, kind: pa.DataType) -> pa.Array:
    """A column of lists of M entries each."""
    flat = np.ascontiguousarray(values_NM).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat, kind), values_NM.shape[1])


def stacked(column: pa.ChunkedArray) -> np.ndarray:
    """A column of lists of one length as an array [N, M]; whole numbers as int64."""
    whole = column.combine_chunks()
    flat = whole.flatten().to_numpy(zero_copy_only=False).reshape(len(whole), column.type.list_size)
    return flat.astype(np.int64) if np.issubdtype(flat.dtype, np.integer) else flat


def integers(column: pa.ChunkedArray) -> np.ndarray:
    """A column of whole numbers as int64 [N]."""
    return column.to_numpy().astype(np.int64)


def shaped(scalar: Any, shape: Sequence[int] | None) -> np.ndarray | None:
    """A float32 array from a list of numbers and its shape; None if there is no shape.

    Raises:
        ValueError, TypeError, AttributeError: they do not fit, or a number is not finite.
    """
    if shape is None:
        return None
    flat = scalar.values.to_numpy()
    if min(shape) < 0 or not np.isfinite(flat).all():
        raise ValueError(f"shape {shape}, or NaN or Inf")
    return flat.reshape(shape).astype(np.float32)
