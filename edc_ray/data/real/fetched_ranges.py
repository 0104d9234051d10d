"""A file of which some ranges are fetched at once, as a remote storage gives them fastest."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Sequence

from fsspec import AbstractFileSystem


class FetchedRanges(io.RawIOBase):
    """What was fetched is read from memory; a read of anything else fetches that, neither more nor less.

    A file that `filesystem.open` gives reads ahead instead, which a Parquet file's reader misses: it comes
    from the end and skips most columns.

    Args:
        filesystem: where the file is.
        path: of the file.
        size: of the file, in bytes.
        ranges: (first byte, number of bytes), each fetched by a request of its own, many at a time where the
            storage can.

    Raises:
        OSError: here and where it is read: the storage gives more or fewer bytes than are asked for.
    """

    def __init__(
        self, filesystem: AbstractFileSystem, path: str, size: int, ranges: Sequence[tuple[int, int]] = ()
    ) -> None:
        self._filesystem, self._path, self._size = filesystem, path, size
        self._place = 0
        # Those that are not asynchronous open a file for each range, which would read ahead again.
        self._options = {} if filesystem.async_impl else {"cache_type": "none"}
        ordered = sorted((start, number) for start, number in ranges if number)
        self._starts = [start for start, _ in ordered]
        ends = [start + number for start, number in ordered]
        self._parts: list[bytes] = []
        if ordered:
            self._parts = filesystem.cat_ranges(
                [path] * len(ordered), starts=self._starts, ends=ends, on_error="raise", **self._options
            )
        for part, (_, number) in zip(self._parts, ordered, strict=True):
            _refuse_others(part, number)

    def read_at(self, offset: int, size: int) -> bytes:
        """At most so many bytes from a place on: fewer where the file ends."""
        size = min(size, self._size - offset)
        if size <= 0:
            return b""
        index = bisect_right(self._starts, offset) - 1
        if index >= 0:
            part, skipped = self._parts[index], offset - self._starts[index]
            if skipped + size <= len(part):
                return part[skipped : skipped + size]
        data = self._filesystem.cat_file(self._path, start=offset, end=offset + size, **self._options)
        assert isinstance(data, bytes)
        _refuse_others(data, size)
        self._starts.insert(index + 1, offset)
        self._parts.insert(index + 1, data)
        return data

    def read(self, size: int = -1, /) -> bytes:
        """See io.RawIOBase."""
        data = self.read_at(self._place, self._size if size is None or size < 0 else size)
        self._place += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """See io.RawIOBase."""
        self._place = offset + {io.SEEK_END: self._size, io.SEEK_CUR: self._place}.get(whence, 0)
        return self._place

    def tell(self) -> int:
        """See io.RawIOBase."""
        return self._place

    def readable(self) -> bool:
        """See io.RawIOBase."""
        return True

    def seekable(self) -> bool:
        """See io.RawIOBase."""
        return True


def _refuse_others(data: bytes, number: int) -> None:
    """Servers that know no ranges give the whole file, and fsspec believes them."""
    if len(data) != number:
        raise OSError(f"a storage that gives {len(data)} bytes where {number} are asked for")
