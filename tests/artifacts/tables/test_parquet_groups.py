from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edc_ray.artifacts.tables import parquet_groups, reader_process
from edc_ray.artifacts.tables.parquet_groups import ParquetGroups, Ranges
from tests.artifacts.parquet_files import written

TABLE = pa.table(
    {
        "epoch": pa.array([0, 0, 1, 1, 2, 2], pa.int32()),
        "image": [{"bytes": b"a" * n, "path": None} for n in range(6)],
        "logits": pa.array([[1.0, 2.0]] * 6, pa.list_(pa.float32(), 2)),
        "half": pa.array(np.zeros(6, np.float16)),
    }
)


class Fetched:
    """A file, and the ranges that were asked for."""

    def __init__(self, data: bytes) -> None:
        self.data, self.asked = data, list[tuple[int, int]]()

    def __call__(self, ranges: Ranges) -> list[bytes]:
        self.asked += ranges
        return [self.data[start : start + number] for start, number in ranges]


def opened(data: bytes) -> ParquetGroups:
    return ParquetGroups(Fetched(data), len(data))


def large(groups: int = 3) -> tuple[pa.Table, bytes]:
    """A table whose row groups do not lie in the end that is fetched first."""
    table = pa.table({name: np.random.default_rng(0).random(60_000) for name in ("a", "b")})
    return table, written(table, row_group_size=60_000 // groups, use_dictionary=False)


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("use_dictionary", [True, False])
def test_row_groups_and_columns_are_those_that_pyarrow_reads(ours: bool, use_dictionary: bool) -> None:
    for table in (TABLE, pa.table({"a": list(range(50_000)), "b": [f"{n % 999}" for n in range(50_000)]})):
        data = written(table, row_group_size=len(table) // 3 or 1, use_dictionary=use_dictionary)
        file = ParquetGroups(Fetched(data), len(data), ours=ours)
        assert file.schema == table.schema
        assert file.read([0, 1, 2]).equals(pq.read_table(pa.BufferReader(data)).slice(0, len(table) // 3 * 3))
        assert file.read([1], [table.column_names[1]]).equals(
            pq.ParquetFile(pa.BufferReader(data)).read_row_group(1, columns=[table.column_names[1]])
        )


def test_a_field_of_structs_is_read_alone() -> None:
    table = opened(written(TABLE)).read([0], ["image.bytes"])
    assert table.column("image").to_pylist() == [{"bytes": b"a" * n} for n in range(6)]


def test_only_what_is_read_is_fetched_and_each_range_once() -> None:
    table, data = large()
    fetched = Fetched(data)
    file = ParquetGroups(fetched, len(data))
    assert fetched.asked == [(len(data) - 2**16, 2**16)]
    fetched.asked.clear()
    column = file.metadata.row_group(0).column(1)
    assert file.read([0], ["b"]).column("b").to_pylist() == table.column("b").to_pylist()[:20_000]
    assert fetched.asked == [(column.data_page_offset, column.total_compressed_size + 100)]


def test_a_footer_longer_than_the_end_that_is_fetched_first_is_fetched_whole() -> None:
    table = pa.table({"a": list(range(2000)), "text": ["a" * 50] * 2000})
    data = written(table, row_group_size=2, use_dictionary=False)
    assert int.from_bytes(data[-8:-4], "little") > 2**16
    file = opened(data)
    assert file.metadata.num_row_groups == 1000
    assert file.read([7], ["a"]).column("a").to_pylist() == [14, 15]


def test_row_groups_are_found_by_the_numbers_that_they_state() -> None:
    stated = opened(written(TABLE, row_group_size=3))
    assert [list(stated.groups_with("epoch", epoch)) for epoch in (0, 1, 2, 3)] == [[0], [0, 1], [1], []]
    unstated = opened(written(TABLE, row_group_size=3, write_statistics=False))
    assert list(unstated.groups_with("epoch", 9)) == [0, 1]
    assert list(stated.groups_with("none", 9)) == [0, 1]


def test_a_table_without_rows_or_columns_is_one() -> None:
    assert opened(written(TABLE.slice(0, 0))).metadata.num_rows == 0
    assert opened(written(pa.table({}))).schema.names == []


@pytest.mark.parametrize("end", [0, 4, 11, -1, -5, -100])
def test_a_file_that_is_cut_is_refused(end: int) -> None:
    with pytest.raises(ValueError, match=r"Parquet|empty"):
        opened(written(TABLE)[:end])


def test_a_footer_longer_than_its_file_is_refused() -> None:
    data = written(TABLE)
    with pytest.raises(ValueError, match="smaller than the size reported"):
        opened(data[:-8] + (2**31).to_bytes(4, "little") + b"PAR1")


def test_a_row_group_that_grows_a_thousandfold_is_refused() -> None:
    data = written(pa.table({"label": np.zeros(10_000_000, np.int64)}), row_group_size=10**8)
    with pytest.raises(ValueError, match=rf"its {len(data)} bytes make 8\d{{7}} or more"):
        opened(data).read([0])


def test_row_groups_that_lie_over_each_other_are_refused() -> None:
    _, data = large(1)
    metadata = pq.read_metadata(pa.BufferReader(data))
    metadata.append_row_groups(metadata)
    sink = io.BytesIO()
    metadata.write_metadata_file(sink)
    forged = data[: -8 - int.from_bytes(data[-8:-4], "little")] + sink.getvalue()[4:]
    fetched = Fetched(forged)
    file = ParquetGroups(fetched, len(forged))
    fetched.asked.clear()
    with pytest.raises(ValueError, match="columns that overlap"):
        file.read([0, 1])
    assert not fetched.asked


def test_a_column_beyond_the_end_of_its_file_is_refused() -> None:
    _, data = large()
    file = opened(data[:4] + data[-8 - int.from_bytes(data[-8:-4], "little") :])
    with pytest.raises(ValueError, match=r"a column of \d+ bytes from \d+ on"):
        file.read([0])


def test_values_of_an_absurd_fixed_length_are_counted_by_it() -> None:
    """Nulls take no byte of the file and, once read, as many as any other value."""
    for rows, refused in ((60, False), (65, True)):
        file = opened(written(pa.table({"x": pa.nulls(rows, pa.binary(2**20))})))
        if refused:
            with pytest.raises(ValueError, match="bytes make 6815"):
                file.read([0])
        else:
            assert file.read([0]).num_rows == rows


def test_a_storage_that_knows_no_ranges_is_refused() -> None:
    _, data = large()
    with pytest.raises(OSError, match=f"gives {len(data)} bytes where 65536 are asked for"):
        ParquetGroups(lambda ranges: [data for _ in ranges], len(data))


def test_bytes_that_change_behind_a_proof_are_proven_again(monkeypatch: pytest.MonkeyPatch) -> None:
    _, data = large()
    fetched = Fetched(data)
    file = ParquetGroups(fetched, len(data))
    before = file.read([0])
    monkeypatch.setattr(reader_process._Reader, "answer", lambda *_: "other bytes")
    assert file.read([0]).equals(before)
    changed = bytearray(data)
    changed[file.metadata.row_group(0).column(0).data_page_offset + 300] ^= 1
    fetched.data = bytes(changed)
    with pytest.raises(ValueError, match="other bytes"):
        file.read([0])


def test_a_file_of_ours_is_read_without_the_reader_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_groups, "prove", lambda *_, **__: pytest.fail("a file of ours"))
    data = written(TABLE)
    assert ParquetGroups(Fetched(data), len(data), ours=True).read([0]).equals(TABLE)
