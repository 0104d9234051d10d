"""The program of the reader process, which decodes Parquet files of others.

`reader_process` runs this file as a script. It needs pyarrow and nothing else of edc_ray. It answers each
line of JSON on its standard input with a line: null, or what is wrong. First comes the import path, then
requests:

    size      of the file, in bytes
    ranges    (first byte, number of bytes) of the parts that follow the line; the last one holds the footer
    groups    row groups to decode; null: all; []: only the footer, with what it states of each column
    columns   to decode; null: all
    limit     of the decoded bytes
    memory    bytes that the process may take besides what it has; null: any
    seconds   after which the process ends

The process ends with its input, or if no request comes for a while.
"""

from __future__ import annotations

import io
import json
import resource
import select
import signal
import sys
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from operator import itemgetter
from typing import Any

_IDLE_SECONDS = 10
_MOST_LETTERS = 500


class HeldRanges(io.RawIOBase):
    """A file of `size` bytes with only some parts in memory: (first byte, bytes). Elsewhere: an OSError."""

    def __init__(self, size: int, parts: Sequence[tuple[int, bytes]]) -> None:
        self._size, self._parts, self._place = size, sorted(parts), 0

    def read(self, size: int = -1, /) -> bytes:
        left = max(0, self._size - self._place)
        size = left if size is None or size < 0 else min(size, left)
        index = bisect_right(self._parts, self._place, key=itemgetter(0)) - 1
        start, part = self._parts[index] if index >= 0 else (self._place, b"")
        skipped = self._place - start
        if skipped + size > len(part):
            raise OSError(f"{size} bytes from {self._place} on lie in no column that is read")
        self._place += size
        return part[skipped : skipped + size]

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._place = offset + {io.SEEK_END: self._size, io.SEEK_CUR: self._place}.get(whence, 0)
        return self._place

    def readable(self) -> bool:
        return True


def main() -> None:
    """Answer requests."""
    stream = sys.stdin.buffer
    sys.path[:] = json.loads(stream.readline())
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        return _answer(error)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pa.set_cpu_count(1)  # threads take room in memory
    pa.set_io_thread_count(1)
    _answer(None)
    footer, metadata = b"", None
    while select.select([stream], [], [], _IDLE_SECONDS)[0] and (line := stream.readline()):
        request = json.loads(line)
        parts = [(start, stream.read(number)) for start, number in request["ranges"]]
        _limit(request["memory"], request["seconds"])
        problem = None
        try:
            if metadata is None or footer != parts[-1][1]:  # many row groups have one footer
                metadata = pq.read_metadata(HeldRanges(request["size"], parts))
                footer = parts[-1][1]
            _decode(request, parts, metadata)
        except MemoryError:
            problem = MemoryError("it takes more memory than an honest file of its size")
        except Exception as error:
            problem = error
        _limit(None, 0)
        _answer(problem)
    return None


def _answer(problem: Exception | None) -> None:
    told = None if problem is None else str(problem).strip() or type(problem).__name__
    print(json.dumps(told and told.splitlines()[0][:_MOST_LETTERS]), flush=True)


def _limit(memory: int | None, seconds: int) -> None:
    """Limit the memory that this process takes besides what it has, and its time; None and 0: no limit."""
    signal.alarm(seconds)
    most = hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if memory is not None:
        with open("/proc/self/statm") as file:
            held = int(file.readline(_MOST_LETTERS).split()[0]) * resource.getpagesize()
        most = held + memory if hard == resource.RLIM_INFINITY else min(held + memory, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _decode(request: dict[str, Any], parts: Sequence[tuple[int, bytes]], metadata: Any) -> None:
    """Read what the request names, as the other process will. A ValueError: it is more than the limit."""
    import pyarrow.parquet as pq

    groups, made, limit = request["groups"], 0, request["limit"]
    if groups == []:
        _look_at(metadata)
    file = pq.ParquetFile(HeldRanges(request["size"], parts), metadata=metadata, pre_buffer=False)
    for index in range(metadata.num_row_groups) if groups is None else groups:
        table = file.read_row_group(index, columns=request["columns"], use_threads=False)
        table.validate(full=True)
        made += max(table.num_rows, sum(map(_plain_bytes, table.columns)))
        if made > limit:
            raise ValueError(f"its {request['size']} bytes make {made} or more, where {limit} are the most")


def _look_at(metadata: Any) -> None:
    """Read from a footer all that the other process reads. For some footers, pyarrow ends the process."""
    metadata.schema.to_arrow_schema()
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            with suppress(Exception):  # raised there too, when it is read
                _ = column.is_stats_set and (column.statistics.min, column.statistics.max)


def _plain_bytes(column: Any) -> int:
    """Bytes of a column with its dictionaries unpacked: a long text in one may stand for a million rows."""
    import pyarrow as pa

    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    if pa.types.is_dictionary(column.type):
        return sum(_plain_bytes(chunk.dictionary_decode()) for chunk in chunks)
    if not pa.types.is_nested(column.type):
        return column.nbytes
    flat = [chunk.flatten() for chunk in chunks]  # a list of fields, or the items of all lists
    inner = [one for found in flat for one in (found if isinstance(found, list) else [found])]
    return max(column.nbytes, sum(map(_plain_bytes, inner)))


if __name__ == "__main__":
    main()
