from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edc_ray.artifacts.storage.limits import FREE_BYTES
from edc_ray.artifacts.tables import parquet_footer
from edc_ray.artifacts.tables.codec import table_from_bytes
from edc_ray.artifacts.tables.parquet_footer import Footer, OtherLayoutError, read_footer
from edc_ray.errors import ArtifactError
from tests.artifacts.parquet_files import reading, written

TABLE = pa.table(
    {
        "epoch": pa.array([0, 0, 1, 1, 2, 2], pa.int32()),
        "image": [{"bytes": b"a" * n, "path": None} for n in range(6)],
        "logits": pa.array([[1.0, 2.0]] * 6, pa.list_(pa.float32(), 2)),
        "half": pa.array(np.zeros(6, np.float16)),
    }
)


def footer_of(data: bytes) -> Footer:
    return read_footer(reading(data), len(data))


def test_the_claims_are_those_that_pyarrow_reads() -> None:
    data = written(TABLE, row_group_size=2)
    footer, expected = footer_of(data), pq.ParquetFile(pa.BufferReader(data)).metadata
    assert len(footer.groups) == expected.num_row_groups == 3
    for group, index in zip(footer.groups, range(3), strict=True):
        theirs = expected.row_group(index)
        assert (group.num_rows, len(group.chunks)) == (theirs.num_rows, theirs.num_columns)
        for chunk, place in zip(group.chunks, range(theirs.num_columns), strict=True):
            column = theirs.column(place)
            start = column.dictionary_page_offset or column.data_page_offset
            sizes = (column.total_compressed_size, column.total_uncompressed_size, column.num_values)
            assert ".".join(chunk.leaf.path) == column.path_in_schema
            assert (chunk.start, chunk.stored, chunk.unpacked, chunk.num_values) == (start, *sizes)
    assert [leaf.width for leaf in footer.groups[0].leaves] == [4, 4, 4, 4, 2]


def test_row_groups_are_found_by_the_numbers_that_they_state() -> None:
    footer = footer_of(written(TABLE, row_group_size=3))
    assert [list(footer.groups_with("epoch", epoch)) for epoch in (0, 1, 2, 3)] == [[0], [0, 1], [1], []]
    unstated = footer_of(written(TABLE, row_group_size=3, write_statistics=False))
    assert list(unstated.groups_with("epoch", 9)) == [0, 1]
    assert list(footer.groups_with("none", 9)) == [0, 1]


def test_a_table_without_rows_or_columns_is_one() -> None:
    assert [group.num_rows for group in footer_of(written(TABLE.slice(0, 0))).groups] in ([], [0])
    footer_of(written(pa.table({})))


@pytest.mark.parametrize("end", [0, 4, 11, -1, -5, -100])
def test_a_file_that_is_cut_is_refused(end: int) -> None:
    with pytest.raises(ValueError, match=r"Parquet|Thrift"):
        footer_of(written(TABLE)[:end])


def test_a_footer_longer_than_its_file_is_refused() -> None:
    data = written(TABLE)
    with pytest.raises(ValueError, match="no end of a Parquet file"):
        footer_of(data[:-8] + (2**31).to_bytes(4, "little") + b"PAR1")


def test_a_footer_too_long_to_read_says_how_to_make_it_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_footer, "_MAX_FOOTER_BYTES", 100)
    with pytest.raises(OtherLayoutError, match=r"a footer of \d+ bytes") as caught:
        footer_of(written(TABLE))
    assert caught.value.next == "write it anew with larger row groups"
    with pytest.raises(
        ArtifactError, match=r"(?s)a\.parquet cannot be read.*next: +write it anew with larger"
    ):
        table_from_bytes(written(TABLE), url="a.parquet")


def test_a_row_group_that_grows_a_thousandfold_is_refused_from_its_footer() -> None:
    data = written(pa.table({"label": np.zeros(10_000_000, np.int64)}), row_group_size=10**8)
    with pytest.raises(ValueError, match=f"{len(data)} bytes that claim"):
        footer_of(data)


def test_row_groups_that_lie_over_each_other_are_refused() -> None:
    """Ten row groups of the same bytes make ten times as much of a file."""
    data = written(pa.table({"x": np.random.default_rng(0).random(10_000)}), use_dictionary=False)
    metadata = pq.read_metadata(pa.BufferReader(data))
    for _ in range(9):
        metadata.append_row_groups(pq.read_metadata(pa.BufferReader(data)))
    sink = io.BytesIO()
    metadata.write_metadata_file(sink)
    pages = data[: -8 - int.from_bytes(data[-8:-4], "little")]
    forged = pages + sink.getvalue()[4:]
    assert pq.read_table(pa.BufferReader(forged)).num_rows == 100_000
    with pytest.raises(ValueError, match="columns that lie over each other"):
        footer_of(forged)


def test_a_column_beyond_the_end_of_its_file_is_refused() -> None:
    data = written(TABLE)
    with pytest.raises(ValueError, match=r"a column of \d+ bytes from 4 on"):
        footer_of(data[:4] + data[-8 - int.from_bytes(data[-8:-4], "little") :])


def test_values_of_an_absurd_fixed_length_are_counted_by_it() -> None:
    """Nulls take no byte of the file and, once read, as many as any other value."""
    rows = FREE_BYTES // 2**20 + 1
    data = written(pa.table({"x": pa.nulls(rows, pa.binary(2**20))}))
    with pytest.raises(ValueError, match="that claim to be"):
        footer_of(data)
    footer_of(written(pa.table({"x": pa.nulls(rows - 1, pa.binary(2**20))})))
