"""Parquet files that tests of their readers damage."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from edc_ray.artifacts.tables.parquet_footer import Chunk, ReadAt, read_footer


def written(table: pa.Table, *, compression: str = "zstd", **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression=compression, **options)
    return sink.getvalue().to_pybytes()


def reading(data: bytes) -> ReadAt:
    return lambda offset, size: data[offset : offset + size]


def chunks(data: bytes) -> list[Chunk]:
    return [chunk for group in read_footer(reading(data), len(data)).groups for chunk in group.chunks]


def with_larger_page(data: bytes, chunk: Chunk) -> bytes:
    """The first page of a column claims to unpack to the most that its header can state."""
    copy = bytearray(data)
    assert copy[chunk.start] == copy[chunk.start + 2] == 0x15
    place = chunk.start + 3
    while copy[place] & 0x80:
        copy[place], place = 0xFF, place + 1
    copy[chunk.start + 3], copy[place] = 0xFE, 0x7F
    return bytes(copy)


def with_one_long_value(size: int, rows: int) -> pa.Table:
    """A dictionary of one value, so many zeros, which all rows repeat."""
    value = pa.array([bytes(size)], pa.binary())
    return pa.table({"image": pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), value)})
