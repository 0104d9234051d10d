"""Parquet files that tests of their readers damage."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from edc_ray.artifacts.tables import reader_child, reader_process


def written(table: pa.Table, *, compression: str = "zstd", **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression=compression, **options)
    return sink.getvalue().to_pybytes()


def sound(number: int) -> bytes:
    """A small file that no other test has."""
    return written(pa.table({"x": [number, os.getpid(), time.monotonic_ns()]}))


def prove_whole(data: bytes) -> None:
    reader_process.prove(len(data), [(0, data)])


def with_larger_page(data: bytes, place: int) -> bytes:
    """The first page of a column claims to unpack to the most that its header can state."""
    copy = bytearray(data)
    column = pq.read_metadata(pa.BufferReader(data)).row_group(0).column(place)
    start = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
    assert copy[start] == copy[start + 2] == 0x15
    place = start + 3
    while copy[place] & 0x80:
        copy[place], place = 0xFF, place + 1
    copy[start + 3], copy[place] = 0xFE, 0x7F
    return bytes(copy)


def with_one_long_value(size: int, rows: int) -> pa.Table:
    """A dictionary of one value, so many zeros, which all rows repeat."""
    value = pa.array([bytes(size)], pa.binary())
    return pa.table({"image": pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), value)})


def child_of() -> int:
    """Number of the reader process of this one."""
    child = reader_process._readers[os.getpid()]._child
    assert child is not None
    return child.pid


def hanging(folder: Path, line: str = "time.sleep(60)") -> Path:
    """A program as that of the reader process, whose decoding is this line."""
    program = folder / "program.py"
    program.write_text(
        "import sys, time\n"
        f"sys.path.insert(0, {str(Path(reader_child.__file__).parent)!r})\n"
        "import reader_child\n"
        f"def decode(*_):\n    {line}\n"
        "reader_child._decode = decode\nreader_child.main()\n"
    )
    return program
