from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edc_ray.artifacts.tables.codec import table_from_bytes, table_to_bytes
from edc_ray.artifacts.tables.logit_columns import SHARED, LogitColumns, logit_arrays, logit_columns
from edc_ray.errors import ArtifactError

RNG = np.random.default_rng(0)
LOGITS = LogitColumns(
    "some",
    {
        "logits_codes": RNG.integers(0, 256, (5, 3), dtype=np.uint8),
        "logits_values": RNG.normal(size=(5, 4)).astype(np.float16),
        "logits_low": RNG.integers(0, 256, 5, dtype=np.uint8),
        "logits_rest": RNG.normal(size=5).astype(np.float16),
    },
    {"mean": RNG.normal(size=7).astype(np.float32), "exponent": np.array(3, np.int16)},
)


def stored(logits: LogitColumns = LOGITS) -> pa.Table:
    return table_from_bytes(
        table_to_bytes(pa.table(logit_arrays(logits) | {"label": pa.array([1] * 5)}), rows_per_group=2),
        url="x",
    )


def test_columns_of_every_kind_and_what_they_share_survive_parquet() -> None:
    back = logit_columns(stored(), "some", url="x")
    assert back.codec == "some"
    assert back.columns.keys() == LOGITS.columns.keys()
    for name, column in LOGITS.columns.items():
        np.testing.assert_array_equal(back.columns[name], column, strict=True)
    for name, array in LOGITS.shared.items():
        np.testing.assert_array_equal(back.shared[name], array, strict=True)


def test_plain_types_are_stored() -> None:
    """Anyone's reader knows them; docs name them."""
    kinds = {field.name: str(field.type) for field in stored().schema if field.name != "label"}
    assert kinds == {
        "logits_codes": "binary",
        "logits_values": "fixed_size_list<element: halffloat>[4]",
        "logits_low": "uint8",
        "logits_rest": "halffloat",
        "logits_shared": "binary",
    }


def test_packed_bytes_take_their_bytes_and_no_lengths() -> None:
    codes = RNG.integers(0, 256, (4000, 8), dtype=np.uint8)
    table = pa.table(logit_arrays(LogitColumns("some", {"logits_codes": codes})))
    chunk = pq.read_metadata(pa.BufferReader(table_to_bytes(table))).row_group(0).column(0)
    assert chunk.total_compressed_size < 1.03 * codes.nbytes


def test_a_table_that_shares_nothing_has_no_column_for_it() -> None:
    assert SHARED not in stored(LogitColumns("some", LOGITS.columns)).column_names


def test_an_array_of_another_kind_is_not_stored() -> None:
    with pytest.raises(ValueError, match="float64"):
        logit_arrays(LogitColumns("some", {"logits_x": np.zeros((2, 2))}))


@pytest.mark.parametrize(
    ("name", "column", "found"),
    [
        ("logits_codes", pa.array([b"abc", b"ab", b"abc", b"abc", b"abc"]), "rows of"),
        ("logits_codes", pa.array([b"abc", None, b"abc", b"abc", b"abc"]), "nulls"),
        ("logits_low", pa.array(["a"] * 5), "string"),
        ("logits_shared", pa.array([1] * 5), "int64"),
    ],
)
def test_columns_of_another_kind_are_refused_with_their_file(name: str, column: pa.Array, found: str) -> None:
    table = stored()
    damaged = table.set_column(table.column_names.index(name), name, column)
    with pytest.raises(ArtifactError, match=r"b/x\.parquet holds damaged logits") as caught:
        logit_columns(damaged, "some", url="b/x.parquet")
    assert found in str(caught.value.found)


def test_a_pickle_in_place_of_what_is_shared_is_not_read() -> None:
    table = stored()
    planted = pa.array([b"\x80\x04K\x01."] + [None] * 4, pa.binary())
    damaged = table.set_column(table.column_names.index(SHARED), SHARED, planted)
    with pytest.raises(ArtifactError, match="logits_shared is damaged"):
        logit_columns(damaged, "some", url="x")
