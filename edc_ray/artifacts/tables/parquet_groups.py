"""Row groups of a Parquet file: no more of it is fetched than what is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from edc_ray.artifacts.tables.reader_child import HeldRanges
from edc_ray.artifacts.tables.reader_process import prove

Ranges = Sequence[tuple[int, int]]
"""Of a file: (first byte, number of bytes)."""
Fetch = Callable[[Ranges], Sequence[bytes]]

_END_BYTES = 2**16  # fetched first, as pyarrow does: most footers lie in it
_TAIL_BYTES = 8
# Some old writers state columns that many bytes too short, and pyarrow reads on.
_MORE_BYTES = 100


class ParquetGroups:
    """A Parquet file whose footer has been read.

    Args:
        fetch: gives ranges of the file.
        size: of the file, in bytes.
        ours: see `Store.is_ours`. Any other file is first proven in the reader process, part by part.

    Raises:
        ValueError: here and in `read`: it is damaged, or makes more than an honest file does.
        OSError: the storage gives more or fewer bytes than are asked for.
    """

    def __init__(self, fetch: Fetch, size: int, *, ours: bool = False) -> None:
        self._fetch, self._size, self._ours = fetch, size, ours
        if not size:
            raise ValueError("an empty file")
        number = min(size, _END_BYTES)
        [self._end] = self._fetched([(size - number, number)])
        needed = int.from_bytes(self._end[1][-_TAIL_BYTES:-4], "little") + _TAIL_BYTES
        if number < needed <= size:
            [self._end] = self._fetched([(size - needed, needed)])
        if not ours:
            prove(size, [self._end], groups=())
        self.metadata = pq.read_metadata(HeldRanges(size, [self._end]))
        self.schema: pa.Schema = self.metadata.schema.to_arrow_schema()

    def chunks(self, group: int, columns: Sequence[str] | None = None) -> list[pq.ColumnChunkMetaData]:
        """What the footer says of columns, or fields of columns (`image.bytes`); structs have several."""
        row_group = self.metadata.row_group(group)
        every = map(row_group.column, range(row_group.num_columns))
        starts = ("",) if columns is None else tuple(f"{column}." for column in columns)
        return [chunk for chunk in every if f"{chunk.path_in_schema}.".startswith(starts)]

    def groups_with(self, column: str, value: int) -> Iterator[int]:
        """Row groups in which a column of whole numbers may have a value, by the range that they state."""
        for group in range(self.metadata.num_row_groups):
            chunks = self.chunks(group, [column])
            stated = chunks[0].statistics if len(chunks) == 1 and chunks[0].is_stats_set else None
            if stated is None or not stated.has_min_max or stated.min <= value <= stated.max:
                yield group

    def read(self, groups: Sequence[int], columns: Sequence[str] | None = None) -> pa.Table:
        """Row groups, or some of their columns."""
        ranges = self._ranges([chunk for group in groups for chunk in self.chunks(group, columns)])
        parts = [*self._fetched(ranges), self._end]
        if not self._ours and groups:
            prove(self._size, parts, groups, columns)
        # With a buffer, neighbours are asked for as one range, by threads that may outlive the interpreter.
        file = pq.ParquetFile(HeldRanges(self._size, parts), metadata=self.metadata, pre_buffer=False)
        return file.read_row_groups(groups, columns=columns, use_threads=False)

    def _ranges(self, chunks: Sequence[pq.ColumnChunkMetaData]) -> list[tuple[int, int]]:
        """Where the columns lie, apart from those in the end that is there."""
        ranges, total = list[tuple[int, int]](), 0
        for chunk in chunks:
            start, stored = chunk.data_page_offset, chunk.total_compressed_size
            if chunk.has_dictionary_page and 0 < chunk.dictionary_page_offset < start:
                start = chunk.dictionary_page_offset
            total += stored
            if min(start, stored) < 0 or start + stored > self._size or total > self._size:
                raise ValueError(f"a column of {stored} bytes from {start} on, or columns that overlap")
            if start < self._end[0]:
                ranges.append((start, min(stored + _MORE_BYTES, self._size - start)))
        return ranges

    def _fetched(self, ranges: Ranges) -> list[tuple[int, bytes]]:
        """First byte and content of each range."""
        parts = []
        for (start, number), content in zip(ranges, self._fetch(ranges) if ranges else [], strict=True):
            if len(content) != number:  # servers that know no ranges give the whole file
                raise OSError(f"a storage that gives {len(content)} bytes where {number} are asked for")
            parts.append((start, content))
        return parts
