"""Encoded logits as columns of a label table. N rows.

A codec makes columns whose names begin with "logits":

    numbers [N]             uint8 or halffloat
    packed bytes [N, B]     binary, of one length
    halves [N, M]           fixed-size list of halffloat

`logits_shared`, binary: in the first row of the table, an npz file of what all its labels have in common;
null in the others. (As metadata of the schema it would be stored twice, in base64.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from edc_ray.artifacts.tables.codec import arrays_from_bytes, arrays_to_bytes
from edc_ray.artifacts.tables.columns import lists_column, stacked
from edc_ray.errors import ArtifactError

PREFIX = "logits"
SHARED = "logits_shared"


@dataclass(frozen=True)
class LogitColumns:
    """Encoded logits of a table: the codec's name, its columns [N, ...] and what they have in common."""

    codec: str
    columns: Mapping[str, np.ndarray]
    shared: Mapping[str, np.ndarray] = field(default_factory=dict)


def logit_arrays(logits: LogitColumns) -> dict[str, pa.Array]:
    """Columns of a table; a ValueError for an array of a kind that is not named above."""
    arrays = {name: _array(name, column) for name, column in logits.columns.items()}
    if logits.shared:
        count = len(next(iter(arrays.values())))
        first: list[bytes | None] = [arrays_to_bytes(logits.shared)]
        arrays[SHARED] = pa.array((first + [None] * (count - 1))[:count], pa.binary())
    return arrays


def logit_columns(table: pa.Table, codec: str, *, url: str) -> LogitColumns:
    """The encoded logits of a table; an ArtifactError for a column of another kind."""
    columns, shared = {}, {}
    for name in table.column_names:
        if name == SHARED:
            column = table.column(name)
            if not pa.types.is_binary(column.type):
                raise _damaged(url, name, column.type)
            data = column[0].as_py() if table.num_rows else None
            shared = {} if data is None else arrays_from_bytes(data, url=f"{url}, column {name}")
        elif name.startswith(PREFIX):
            columns[name] = _values(table.column(name), name, url)
    return LogitColumns(codec, columns, shared)


def _array(name: str, column: np.ndarray) -> pa.Array:
    if column.ndim == 1 and column.dtype in (np.uint8, np.float16):
        return pa.array(column)
    if column.ndim == 2 and column.dtype == np.uint8:
        width = column.shape[1]
        offsets = np.arange(len(column) + 1, dtype=np.int32) * width
        data = pa.py_buffer(np.ascontiguousarray(column).tobytes())
        return pa.Array.from_buffers(pa.binary(), len(column), [None, pa.py_buffer(offsets.tobytes()), data])
    if column.ndim == 2 and column.dtype == np.float16:
        return lists_column(column, pa.float16())
    raise ValueError(f"{name}: a table of labels cannot hold {column.dtype} {list(column.shape)}")


def _values(column: pa.ChunkedArray, name: str, url: str) -> np.ndarray:
    kind, rows = column.type, column.combine_chunks()
    if column.null_count:
        raise _damaged(url, name, "nulls")
    if kind in (pa.uint8(), pa.float16()):
        return rows.to_numpy(zero_copy_only=False)
    if pa.types.is_fixed_size_list(kind) and kind.value_type == pa.float16():
        return stacked(column)
    if not pa.types.is_binary(kind):
        raise _damaged(url, name, kind)
    values = rows.to_pylist()
    widths = {len(value) for value in values}
    if len(widths) > 1:
        raise _damaged(url, name, f"rows of {sorted(widths)} bytes")
    return np.frombuffer(b"".join(values), np.uint8).reshape(len(values), widths.pop() if widths else 0)


def _damaged(url: str, name: str, found: object) -> ArtifactError:
    return ArtifactError(
        f"{url} holds damaged logits", found=f"column {name}: {found}", expected="what its codec makes"
    )
