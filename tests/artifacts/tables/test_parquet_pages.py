from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from edc_ray.artifacts.tables.codec import table_from_bytes, table_to_bytes
from edc_ray.artifacts.tables.parquet_footer import read_footer
from edc_ray.artifacts.tables.parquet_pages import check_pages, check_parquet
from edc_ray.data.real.parquet import read_parquet
from edc_ray.errors import ArtifactError, DataError
from tests.artifacts.parquet_files import chunks, reading, with_larger_page, with_one_long_value, written

IMAGES = [bytes(np.random.default_rng(n).integers(0, 256, 3000, np.uint8)) for n in range(500)]
HONEST = pa.table(
    {
        "label": pa.array(np.arange(1000) % 7),
        "class_name": [f"class number {n}" * 4 for n in range(1000)],
        "image": IMAGES * 2,
        "nothing": pa.nulls(1000, pa.string()),
        "lists": [[float(n)] * (n % 3) for n in range(1000)],
    }
)
LONG = pa.table({"packed": pa.array([bytes(1000)] * 4000, pa.binary(1000))})
ZEROS = pa.table({"label": np.zeros(2**18, np.int64)})


@pytest.mark.parametrize("compression", ["none", "snappy", "gzip", "zstd", "lz4", "brotli"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_honest_files_pass(compression: str, version: str) -> None:
    for options in ({}, {"row_group_size": 300}, {"use_dictionary": False}, {"data_page_size": 2000}):
        check_parquet(written(HONEST, compression=compression, data_page_version=version, **options))


def test_honest_files_of_ours_and_without_rows_pass() -> None:
    for table in (HONEST, HONEST.slice(0, 0), ZEROS, pa.table({})):
        check_parquet(table_to_bytes(table, rows_per_group=700))


def test_a_page_larger_than_its_column_is_refused_without_room_for_it() -> None:
    data = written(LONG, use_dictionary=False, data_page_size=2**22)
    liar = with_larger_page(data, chunks(data)[0])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ArtifactError, match=r"(?s)a\.parquet is damaged.*pages of \d{9} bytes or more"):
        table_from_bytes(liar, url="a.parquet")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**15


@pytest.mark.parametrize("named", [True, False])
def test_a_long_value_that_many_rows_repeat_is_refused_by_name(tmp_path: Path, named: bool) -> None:
    """2,000 rows of 1 MiB in a file of less than 20 KiB, whose footer claims 1 MiB."""
    table = with_one_long_value(2**20, 2000)
    data = written(table, dictionary_pagesize_limit=2**30, store_schema=named)
    assert len(data) < 20_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ArtifactError, match=r"(?s)a\.parquet is damaged.*bytes that claim to be 2097152000"):
        table_from_bytes(data, url="a.parquet")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**15


def test_a_dataset_with_such_pages_is_refused_by_name(tmp_path: Path) -> None:
    import fsspec

    filesystem, path = fsspec.filesystem("file"), str(tmp_path / "train.parquet")
    table = with_one_long_value(2**20, 2000).append_column("label", pa.array(np.zeros(2000, np.int64)))
    Path(path).write_bytes(written(table, dictionary_pagesize_limit=2**30, store_schema=False))
    images = read_parquet(filesystem, [path], path)
    with pytest.raises(DataError, match=r"(?s)cannot read .*train\.parquet.*claim to be 2097152000"):
        images.reader.read([0])
    label = written(HONEST.select(["image", "label"]), use_dictionary=False)
    Path(path).write_bytes(with_larger_page(label, chunks(label)[1]))
    with pytest.raises(DataError, match=r"(?s)cannot read .*train\.parquet.*pages of \d+ bytes or more"):
        read_parquet(filesystem, [path], path)


def test_values_that_share_prefixes_are_refused() -> None:
    encodings = {"class_name": "DELTA_BYTE_ARRAY"}
    data = written(HONEST.select(["class_name"]), use_dictionary=False, column_encoding=encodings)
    with pytest.raises(ValueError, match="share prefixes"):
        check_parquet(data)


def test_only_the_columns_that_are_read_are_looked_at() -> None:
    data = written(HONEST.select(["label", "class_name"]), use_dictionary=False)
    liar = with_larger_page(data, chunks(data)[1])
    footer = read_footer(reading(liar), len(liar))
    check_pages(reading(liar), footer, [0], ["label"])
    with pytest.raises(ValueError, match="bytes or more in a column of"):
        check_pages(reading(liar), footer, [0], ["class_name"])


def test_a_footer_that_contradicts_its_schema_does_not_end_the_process() -> None:
    """What pyarrow does when it is asked for a column of such a row group."""
    seed = Path(__file__).parents[2] / "fuzz" / "corpus" / "images" / "histogram_of_other_levels"
    with pytest.raises(ArtifactError, match=r"(?s)a\.parquet is damaged.*histogram size mismatch"):
        table_from_bytes(seed.read_bytes(), url="a.parquet")
