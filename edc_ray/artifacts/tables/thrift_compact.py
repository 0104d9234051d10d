"""Thrift's compact protocol, in which Parquet writes its footer and the headers of its pages.

Only what is needed to look at claims before a library acts on them. Stricter than Thrift itself: what two
readers could take for different numbers (a field twice, a number too large for its type) is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

BOOL: Final = 1
I32: Final = 5
I64: Final = 6
BINARY: Final = 8
LIST: Final = 9
STRUCT: Final = 12

Fields = dict[int, tuple[int, Any]]
"""Of a struct: number of a field -> its type and value. Values: int, bool, bytes, a list of (type, value), or
Fields; None of a type that is only skipped."""
Make = Callable[[Fields, Fields], Any]
"""(fields of the outer struct that come before, an inner struct) -> what to keep of it."""

_FALSE, _BYTE, _DOUBLE, _SET, _MAP = 2, 3, 7, 10, 11
_BITS = {_BYTE: 8, 4: 16, I32: 32, I64: 64}
_DEEPEST = 16
_LARGEST_NUMBER = 2**15


class TruncatedError(ValueError):
    """The bytes end before the struct does."""


def read_struct(data: bytes, made: Mapping[int, Make] | None = None) -> tuple[Fields, int]:
    """A struct that begins where `data` begins, and how many bytes it takes.

    Args:
        data: from there on.
        made: number of a field that is a list of structs -> what to keep of each, so that not all are held.

    Raises:
        TruncatedError: `data` ends too early.
        ValueError: no struct.
    """
    try:
        return _struct(data, 0, 0, made or {})
    except IndexError:
        raise TruncatedError("a Thrift struct that is cut short") from None


def field(fields: Fields, number: int, kind: int) -> Any:
    """A value, or None where the struct has no such field.

    Raises:
        ValueError: it is of another type, which some readers would skip.
    """
    if number not in fields:
        return None
    found, value = fields[number]
    if found != kind:
        raise ValueError(f"field {number} of a Thrift struct has the type {found}")
    return value


def needed(fields: Fields, number: int, kind: int) -> Any:
    """As `field`, of one that must be there."""
    value = field(fields, number, kind)
    if value is None:
        raise ValueError(f"a Thrift struct without field {number}")
    return value


def items(fields: Fields, number: int, kind: int) -> list[Any]:
    """The values of a field that is a list of one type; [] where there is none."""
    found = field(fields, number, LIST) or []
    if any(one != kind for one, _ in found):
        raise ValueError(f"field {number} of a Thrift struct lists another type")
    return [value for _, value in found]


def _struct(data: bytes, place: int, depth: int, made: Mapping[int, Make]) -> tuple[Fields, int]:
    fields: Fields = {}
    number = 0
    while head := data[place]:
        place += 1
        kind = head & 15
        if head >> 4:
            number += head >> 4
        else:
            number, place = _integer(data, place, 16)
        if number in fields or not 0 < number < _LARGEST_NUMBER:
            raise ValueError(f"field {number} of a Thrift struct stands twice, or cannot be")
        if kind in (BOOL, _FALSE):
            fields[number] = (BOOL, kind == BOOL)
        else:
            make = made.get(number)
            value, place = _value(data, place, kind, depth, make and partial(make, fields))
            fields[number] = (kind, value)
    return fields, place + 1


def _value(
    data: bytes, place: int, kind: int, depth: int, make: Callable[[Fields], Any] | None = None
) -> tuple[Any, int]:
    if depth > _DEEPEST:
        raise ValueError("Thrift structs and lists too deep in each other")
    if kind in _BITS and kind != _BYTE:
        return _integer(data, place, _BITS[kind])
    if kind == BINARY:
        size, place = _varint(data, place)
        if size > len(data) - place:
            raise IndexError
        return data[place : place + size], place + size
    if kind == STRUCT:
        return _struct(data, place, depth + 1, {})
    if kind in (LIST, _SET):
        return _list(data, place, depth, make)
    if kind in (BOOL, _FALSE, _BYTE):
        return data[place], place + 1
    if kind == _DOUBLE:
        data[place + 7]
        return None, place + 8
    if kind == _MAP:
        return _map(data, place, depth)
    raise ValueError(f"a Thrift value of the type {kind}")


def _list(
    data: bytes, place: int, depth: int, make: Callable[[Fields], Any] | None
) -> tuple[list[tuple[int, Any]], int]:
    head = data[place]
    size, kind, place = head >> 4, head & 15, place + 1
    if size == 15:
        size, place = _varint(data, place)
    if size > len(data) - place:  # each takes a byte at least
        raise IndexError
    values = []
    for _ in range(size):
        value, place = _value(data, place, kind, depth + 1)
        values.append((kind, make(value) if make and kind == STRUCT else value))
    return values, place


def _map(data: bytes, place: int, depth: int) -> tuple[None, int]:
    size, place = _varint(data, place)
    if size:
        kinds, place = data[place], place + 1
        if size > len(data) - place:
            raise IndexError
        for _ in range(size):
            _, place = _value(data, place, kinds >> 4, depth + 1)
            _, place = _value(data, place, kinds & 15, depth + 1)
    return None, place


def _integer(data: bytes, place: int, bits: int) -> tuple[int, int]:
    raw, place = _varint(data, place)
    if raw >> bits:
        raise ValueError(f"a Thrift number of more than {bits} bits")
    return (raw >> 1) ^ -(raw & 1), place


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError("a Thrift number of more than 64 bits")
