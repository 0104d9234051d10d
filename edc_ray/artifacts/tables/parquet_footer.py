"""What the footer of a Parquet file claims, read before pyarrow reads it.

pyarrow ends the whole process where a footer contradicts itself in some ways and is asked for a column
(`row_group(0).column(0)`, version 26: an exception of C++ that nothing catches), so that it is not asked.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from edc_ray.artifacts.storage.limits import refuse_inflated
from edc_ray.artifacts.tables.thrift_compact import (
    BINARY,
    I32,
    I64,
    STRUCT,
    Fields,
    field,
    items,
    needed,
    read_struct,
)

ReadAt = Callable[[int, int], bytes]
"""Bytes of a file: (offset, number) -> at most so many."""

BYTE_ARRAY = 6
_FIXED_LENGTH = 7
# BOOLEAN, INT32, INT64, INT96, FLOAT, DOUBLE, and the length of a BYTE_ARRAY.
_WIDTHS = (1, 4, 8, 12, 4, 8, 4)
_MAGIC = b"PAR1"
_TAIL = 8
_MAX_FOOTER_BYTES = 16 * 2**20
_DEEPEST = 100


class OtherLayoutError(ValueError):
    """A file that may be sound, written in a way that is not read here; `next`: how to write it instead."""

    def __init__(self, found: str, *, next: str) -> None:
        super().__init__(found)
        self.next = next


@dataclass(frozen=True)
class Leaf:
    """A column of values: the path of its name, its physical type and the bytes of a value in memory."""

    path: tuple[str, ...]
    kind: int
    width: int

    def is_of(self, name: str) -> bool:
        """Whether it is read where `name` is: a column, or `column.field` of one of structs."""
        return f"{'.'.join(self.path)}.".startswith(f"{name}.")


class Chunk(NamedTuple):
    """The values of a leaf in one row group. `least` and `most`: of whole numbers, where they are stated."""

    leaf: Leaf
    codec: int
    start: int
    stored: int
    unpacked: int
    num_values: int
    is_stated: int
    least: int
    most: int


@dataclass(frozen=True)
class Group:
    """A row group. `numbers` are those of all its chunks: a file may have many thousands."""

    num_rows: int
    leaves: tuple[Leaf, ...]
    numbers: array[int]

    @property
    def chunks(self) -> list[Chunk]:
        """Of all leaves."""
        width = len(Chunk._fields) - 1
        starts = range(0, len(self.numbers), width)
        return [
            Chunk(leaf, *self.numbers[start : start + width])
            for leaf, start in zip(self.leaves, starts, strict=True)
        ]

    @property
    def held(self) -> int:
        """Bytes in memory, at least."""
        return sum(max(chunk.unpacked, chunk.num_values * chunk.leaf.width) for chunk in self.chunks)

    def of_column(self, name: str) -> list[Chunk]:
        """The chunks of a column or of a field (`Leaf.is_of`): several, where it is of structs."""
        return [chunk for chunk in self.chunks if chunk.leaf.is_of(name)]


@dataclass(frozen=True)
class Footer:
    """Row groups of a file, and its size."""

    groups: tuple[Group, ...]
    stored: int

    def groups_with(self, name: str, value: int) -> Iterator[int]:
        """Row groups in which a column of whole numbers may have a value, by what they state."""
        for index, group in enumerate(self.groups):
            chunks = group.of_column(name)
            if len(chunks) != 1 or not chunks[0].is_stated or chunks[0].least <= value <= chunks[0].most:
                yield index


def read_footer(read_at: ReadAt, stored: int) -> Footer:
    """The claims of a file of so many bytes, none of them larger than such a file honestly makes.

    Raises:
        ValueError: no Parquet file, or one that contradicts itself or claims to be larger than it can be.
    """
    tail = read_at(max(0, stored - _TAIL), _TAIL)
    size = int.from_bytes(tail[:4], "little")
    if len(tail) < _TAIL or tail[4:] != _MAGIC or not 0 < size <= stored - _TAIL - len(_MAGIC):
        raise ValueError("no end of a Parquet file")
    if size > _MAX_FOOTER_BYTES:
        raise OtherLayoutError(f"a footer of {size} bytes", next="write it anew with larger row groups")
    end = stored - _TAIL - size
    content = bytes(read_at(end, size))
    leaves: list[Leaf] = []

    def kept(file: Fields, group: Fields) -> Group:
        leaves[:] = leaves or _leaves(items(file, 2, STRUCT))
        made = _group(group, tuple(leaves), end)
        _refuse_claims(made, stored)
        return made

    fields, _ = read_struct(content, {4: kept})
    groups = tuple(items(fields, 4, STRUCT))
    if sum(group.num_rows for group in groups) != needed(fields, 3, I64):
        raise ValueError("row groups of more or fewer rows than the file")
    if sum(chunk.stored for group in groups for chunk in group.chunks) > end:
        raise ValueError("columns that lie over each other")
    return Footer(groups, stored)


def _leaves(elements: list[Fields]) -> list[Leaf]:
    """The columns of values of a schema, whose tree is written down depth first."""
    leaves, open_nodes = list[Leaf](), list[tuple[tuple[str, ...], int]]()
    for place, element in enumerate(elements):
        name = needed(element, 4, BINARY).decode()
        path = (*open_nodes[-1][0], name) if place and open_nodes else ()
        if (place and not open_nodes) or len(path) > _DEEPEST:
            raise ValueError("a schema that is no tree")
        if place:
            above, left = open_nodes.pop()
            if left > 1:
                open_nodes.append((above, left - 1))
        children = field(element, 5, I32) or 0
        if children > 0:
            open_nodes.append((path, children))
        elif place:
            leaves.append(_leaf(element, path))
    if open_nodes:
        raise ValueError("a schema that is no tree")
    return leaves


def _leaf(element: Fields, path: tuple[str, ...]) -> Leaf:
    kind = needed(element, 1, I32)
    if kind == _FIXED_LENGTH:
        width = needed(element, 2, I32)
    else:
        width = _WIDTHS[kind] if 0 <= kind < len(_WIDTHS) else 0
    if width < 1:
        raise ValueError(f"values of {width} bytes, of the type {kind}")
    return Leaf(path, kind, width)


def _group(fields: Fields, leaves: tuple[Leaf, ...], end: int) -> Group:
    columns = items(fields, 1, STRUCT)
    if len(columns) != len(leaves):
        raise ValueError(f"a row group of {len(columns)} columns, a schema of {len(leaves)}")
    numbers = array("q")
    for column, leaf in zip(columns, leaves, strict=True):
        numbers.extend(_numbers(column, leaf, end))
    return Group(needed(fields, 3, I64), leaves, numbers)


def _numbers(column: Fields, leaf: Leaf, end: int) -> tuple[int, ...]:
    """Of a chunk, in their order."""
    if field(column, 1, BINARY) is not None:
        raise ValueError("a column in another file")
    meta = needed(column, 3, STRUCT)
    first, dictionary = needed(meta, 9, I64), field(meta, 11, I64)
    start = dictionary if dictionary is not None and 0 < dictionary < first else first
    size = needed(meta, 7, I64)
    if not 0 <= start <= end or not 0 <= size <= end - start:
        raise ValueError(f"a column of {size} bytes from {start} on")
    sizes = (needed(meta, 6, I64), needed(meta, 5, I64))
    return needed(meta, 4, I32), start, size, *sizes, *_span(field(meta, 12, STRUCT), leaf)


def _span(statistics: Fields | None, leaf: Leaf) -> tuple[int, int, int]:
    """Whether least and greatest number are stated, and which."""
    if statistics is None or leaf.kind not in (1, 2):
        return 0, 0, 0
    most, least = field(statistics, 5, BINARY), field(statistics, 6, BINARY)
    if most is None or least is None or len(most) != leaf.width or len(least) != leaf.width:
        return 0, 0, 0
    return 1, int.from_bytes(least, "little", signed=True), int.from_bytes(most, "little", signed=True)


def _refuse_claims(group: Group, stored: int) -> None:
    """Columns of ours are of rows, or of lists that are counted by their entries."""
    for chunk in group.chunks:
        for claimed in (group.num_rows, chunk.num_values, chunk.unpacked):
            refuse_inflated(claimed, stored)
        if chunk.num_values < group.num_rows:
            raise ValueError(f"{chunk.num_values} values of {group.num_rows} rows")
    refuse_inflated(group.held, stored)
