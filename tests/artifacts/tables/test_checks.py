from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from edc_ray.artifacts.tables.checks import (
    check_slots,
    check_table,
    refuse_other_types,
    refuse_repeated,
)
from edc_ray.errors import ArtifactError


@pytest.mark.parametrize(
    ("column", "expected", "found"),
    [
        (pa.array(["a"]), pa.int64(), "string"),
        (pa.array([1.0]), pa.int64(), "double"),
        (pa.array([None], pa.int64()), pa.int64(), "1 nulls"),
        (pa.array([{"path": "a"}]), pa.struct([("bytes", pa.binary())]), "struct"),
        (pa.array([[1]], pa.list_(pa.int64())), pa.list_(pa.float16(), 1), "list"),
    ],
)
def test_a_column_of_another_kind_is_refused(column: pa.Array, expected: pa.DataType, found: str) -> None:
    with pytest.raises(ArtifactError, match=rf"a\.parquet: column x is damaged\n  found:    .*{found}"):
        refuse_other_types(pa.table({"x": column}), {"x": expected}, url="a.parquet")


def test_wider_numbers_and_absent_columns_pass() -> None:
    refuse_other_types(pa.table({"x": [1]}), {"x": pa.int16(), "y": pa.string()}, url="a.parquet")


@pytest.mark.parametrize(("labels", "ipc_ids"), [([3], [0]), ([-1], [0]), ([0], [-1])])
def test_a_slot_of_no_class_or_below_zero_is_refused(labels: list[int], ipc_ids: list[int]) -> None:
    check_slots("a", np.array([0, 2]), np.array([0, 7]), 3)
    with pytest.raises(ArtifactError, match="is damaged"):
        check_slots("a", np.array(labels), np.array(ipc_ids), 3)


def test_rows_that_stand_twice_are_named() -> None:
    columns = {"label": np.array([0, 1, 0]), "ipc_id": np.array([5, 5, 6])}
    refuse_repeated("a", columns)
    with pytest.raises(ArtifactError, match="label 0, ipc_id 5"):
        refuse_repeated("a", columns | {"ipc_id": np.array([5, 5, 5])})


@pytest.mark.parametrize("names", ["[1]", "{", "[" * 10_000, "null"])
def test_class_names_that_are_no_names_are_refused(names: Any) -> None:
    metadata = {"edc_ray.schema_version": "1", "edc_ray.class_names": names}
    table = pa.table({"x": [1]}).replace_schema_metadata(metadata)
    with pytest.raises(ArtifactError, match="is not a table of edc-ray"):
        check_table(table, ["x"], url="a")
