from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edc_ray.artifacts.tables.thrift_compact import (
    BINARY,
    BOOL,
    I32,
    I64,
    LIST,
    STRUCT,
    Fields,
    TruncatedError,
    field,
    items,
    needed,
    read_struct,
)

# Field 1: the 32-bit number 150; 2: "ab"; 4: true; 5: a list of one struct whose field 1 is the 64-bit -1.
WHOLE = b"\x15\xac\x02" + b"\x18\x02ab" + b"\x21" + b"\x19\x1c" + b"\x16\x01\x00" + b"\x00"
INNER = {1: (I64, -1)}


def test_a_struct_is_read_with_the_types_of_its_fields() -> None:
    fields, size = read_struct(WHOLE + b"rest")
    assert size == len(WHOLE)
    assert fields == {1: (I32, 150), 2: (BINARY, b"ab"), 4: (BOOL, True), 5: (LIST, [(STRUCT, INNER)])}
    assert (field(fields, 1, I32), field(fields, 3, I32), items(fields, 5, STRUCT)) == (150, None, [INNER])


def test_of_a_list_only_what_is_made_of_its_structs_is_kept() -> None:
    def made(outer: Fields, inner: Fields) -> int:
        return needed(outer, 1, I32) + needed(inner, 1, I64)

    assert items(read_struct(WHOLE, {5: made})[0], 5, STRUCT) == [149]


@pytest.mark.parametrize("size", range(len(WHOLE)))
def test_a_struct_that_is_cut_anywhere_is_said_to_be_cut(size: int) -> None:
    with pytest.raises(TruncatedError, match="cut short"):
        read_struct(WHOLE[:size])


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"\x15\x02\x05\x02\x02\x00", "field 1 .* twice"),
        (b"\x15\x80\x80\x80\x80\x20\x00", "more than 32 bits"),
        (b"\x16" + b"\xff" * 10 + b"\x01\x00", "more than 64 bits"),
        (b"\x05\x01\x02\x00", "field -1 .* cannot be"),
        (b"\x1c" * 40, "too deep"),
        (b"\x19" * 40, "too deep"),
        (b"\x1e\x00", "type 14"),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(data: bytes, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        read_struct(data)


def test_a_list_that_claims_more_entries_than_bytes_is_not_begun() -> None:
    with pytest.raises(TruncatedError):
        read_struct(b"\x19\xfc\xff\xff\xff\xff\x0f" + b"\x00" * 100)


@pytest.mark.parametrize("kind", [I64, BINARY, STRUCT])
def test_a_field_of_another_type_is_refused(kind: int) -> None:
    with pytest.raises(ValueError, match="has the type 5"):
        needed(read_struct(WHOLE)[0], 1, kind)
    with pytest.raises(ValueError, match="without field 9"):
        needed(read_struct(WHOLE)[0], 9, kind)


def test_entries_of_another_type_are_refused() -> None:
    with pytest.raises(ValueError, match=r"field 5 .* another type"):
        items(read_struct(WHOLE)[0], 5, BINARY)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_struct_or_refused(data: bytes) -> None:
    try:
        _, size = read_struct(data)
    except ValueError:
        return
    assert 0 < size <= len(data)


def test_the_footer_that_pyarrow_writes_is_read_to_its_last_byte() -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": [1, 2], "b": ["x", None], "c": [[1.0], []]}), sink)
    data = sink.getvalue().to_pybytes()
    size = int.from_bytes(data[-8:-4], "little")
    assert read_struct(data[-8 - size : -8])[1] == size
