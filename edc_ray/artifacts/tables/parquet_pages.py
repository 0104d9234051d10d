"""What the pages of a Parquet file claim, before pyarrow makes room for it.

A footer says how large a column is; each of its pages says it again. pyarrow believes the pages, so that an
honest footer proves nothing. Pages that repeat one long value from a dictionary claim little and make much.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa

from edc_ray.artifacts.storage.limits import refuse_inflated
from edc_ray.artifacts.tables.parquet_footer import (
    BYTE_ARRAY,
    Chunk,
    Footer,
    OtherLayoutError,
    ReadAt,
    read_footer,
)
from edc_ray.artifacts.tables.thrift_compact import I32, STRUCT, Fields, TruncatedError, needed, read_struct

_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
# Of each kind of page: the field of its own header, and there the field of its encoding.
_HEADERS = {_DATA: (5, 2), _DICTIONARY: (7, 2), _DATA_V2: (8, 4)}
_BY_DICTIONARY = (2, 8)
_SHARED_PREFIXES = 7
_CODECS = {0: None, 1: "snappy", 2: "gzip", 4: "brotli", 6: "zstd", 7: "lz4_raw"}
_HEADER_BYTES = (2**8, 2**14, 2**20, 2**24)
_LITTLE = 2**16
_FREE_PAGES, _BYTES_OF_A_PAGE = 2**16, 2**8


@dataclass(frozen=True)
class _Page:
    """A page; its content lies at `start`."""

    kind: int
    start: int
    stored: int
    unpacked: int
    num_values: int
    encoding: int


def check_parquet(data: bytes, columns: Collection[str] | None = None) -> Footer:
    """The footer of a whole file, of which footer and pages claim what such a file honestly makes.

    Args:
        data: the file.
        columns: of which the pages are looked at; see `check_pages`.

    Raises:
        ValueError: otherwise.
    """
    view = memoryview(data)

    def read_at(offset: int, size: int) -> bytes:
        return view[offset : offset + size].tobytes()

    footer = read_footer(read_at, len(data))
    refuse_inflated(sum(group.held for group in footer.groups), len(data))
    check_pages(read_at, footer, range(len(footer.groups)), columns)
    return footer


def check_pages(
    read_at: ReadAt, footer: Footer, groups: Collection[int], columns: Collection[str] | None = None
) -> None:
    """Refuse row groups whose pages are larger than the footer says, or make more than they hold.

    Args:
        read_at: of the file.
        footer: of the same.
        groups: indices of the row groups that will be read.
        columns: or fields of columns (`image.bytes`) that will be read; None: all.

    Raises:
        ValueError: pages that are damaged, larger or fewer than the footer says, or of values that repeat
            too much.
    """
    left, made = _FREE_PAGES + footer.stored // _BYTES_OF_A_PAGE, 0
    for chunk in (chunk for index in groups for chunk in footer.groups[index].chunks):
        if columns is not None and not any(map(chunk.leaf.is_of, columns)):
            continue
        pages = []
        for page in _pages(read_at, chunk):
            pages.append(page)
            if len(pages) > left:
                raise ValueError(f"more than {left} pages")
        left -= len(pages)
        made += _repeated(read_at, chunk, pages, footer.stored)
        refuse_inflated(made, footer.stored)


def _pages(read_at: ReadAt, chunk: Chunk) -> Iterator[_Page]:
    """The pages of a column in a row group, as far as pyarrow reads them."""
    place, end = chunk.start, chunk.start + chunk.stored
    seen = unpacked = 0
    while seen < chunk.num_values:
        page = _page(read_at, place, end, chunk.leaf.width)
        unpacked += page.unpacked
        if unpacked > chunk.unpacked:
            raise ValueError(f"pages of {unpacked} bytes or more in a column of {chunk.unpacked}")
        if page.kind == _DICTIONARY and place != chunk.start:
            raise ValueError("a dictionary behind what needs it")
        if page.kind != _DICTIONARY:
            seen += page.num_values
        yield page
        place = page.start + page.stored
    if seen > chunk.num_values:
        raise ValueError(f"pages of {seen} values in a column of {chunk.num_values}")


def _page(read_at: ReadAt, place: int, end: int, width: int) -> _Page:
    header, size = _header(read_at, place, end)
    kind, unpacked, stored = (needed(header, number, I32) for number in (1, 2, 3))
    if kind not in _HEADERS:
        raise ValueError(f"a page of the type {kind}")
    own, encoding = _HEADERS[kind]
    about = needed(header, own, STRUCT)
    page = _Page(kind, place + size, stored, unpacked, needed(about, 1, I32), needed(about, encoding, I32))
    if min(stored, unpacked, page.num_values) < 0 or page.start + stored > end:
        raise ValueError(f"a page of {stored} bytes that make {unpacked}, of {page.num_values} values")
    if page.num_values * width > unpacked if kind == _DICTIONARY else page.num_values < 1:
        raise ValueError(f"a page of {page.num_values} values in {unpacked} bytes")
    if page.encoding == _SHARED_PREFIXES:
        found = "values that share prefixes (DELTA_BYTE_ARRAY), which may grow without end"
        raise OtherLayoutError(found, next="write it anew with another encoding")
    return page


def _header(read_at: ReadAt, place: int, end: int) -> tuple[Fields, int]:
    for size in _HEADER_BYTES:
        with suppress(TruncatedError):
            return read_struct(read_at(place, min(size, end - place)))
        if size >= end - place:
            break
    raise ValueError("a column that is cut short")


def _repeated(read_at: ReadAt, chunk: Chunk, pages: list[_Page], stored: int) -> int:
    """The most bytes that pages make of a dictionary of texts or bytes: as many as its longest for each."""
    if chunk.leaf.kind != BYTE_ARRAY or not pages or pages[0].kind != _DICTIONARY:
        return 0
    count = sum(page.num_values for page in pages[1:] if page.encoding in _BY_DICTIONARY)
    if count * pages[0].unpacked <= _LITTLE:
        return count * pages[0].unpacked
    return count * _longest(read_at, chunk, pages[0])


def _longest(read_at: ReadAt, chunk: Chunk, page: _Page) -> int:
    """Bytes of the longest value in a dictionary."""
    if chunk.codec not in _CODECS:
        return page.unpacked
    data, codec = read_at(page.start, page.stored), _CODECS[chunk.codec]
    if codec is not None:
        data = pa.Codec(codec).decompress(data, decompressed_size=page.unpacked, asbytes=True)
    longest = place = 0
    for _ in range(page.num_values):
        size = int.from_bytes(data[place : place + 4], "little")
        longest, place = max(longest, size), place + 4 + size
        if place > len(data):
            raise ValueError("a dictionary that is cut short")
    return longest
