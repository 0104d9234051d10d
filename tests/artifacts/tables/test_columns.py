from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from edc_ray.artifacts.tables.columns import integers, lists_column, plain_column, stacked


def test_whole_numbers_come_back_as_int64_from_any_chunks() -> None:
    column = plain_column(np.array([1, 2, 65535]), pa.uint16())
    chunked = pa.chunked_array([column.slice(0, 1), column.slice(1)])
    np.testing.assert_array_equal(integers(chunked), np.array([1, 2, 65535]), strict=True)
    with pytest.raises(pa.ArrowInvalid, match="not in range"):
        plain_column(np.array([65536]), pa.uint16())


def test_words_are_kept_in_a_dictionary() -> None:
    kind = pa.dictionary(pa.int8(), pa.string())
    column = plain_column(np.array(["a", "b", "a"]), kind)
    assert (column.type, column.to_pylist()) == (kind, ["a", "b", "a"])


@pytest.mark.parametrize(("kind", "back"), [(pa.float16(), np.float16), (pa.uint8(), np.int64)])
def test_lists_of_one_length_come_back_from_any_chunks(kind: pa.DataType, back: type) -> None:
    values = np.arange(12).reshape(4, 3).astype(kind.to_pandas_dtype())
    column = lists_column(values, kind)
    chunked = pa.chunked_array([column.slice(0, 3), column.slice(3)])
    np.testing.assert_array_equal(stacked(chunked), values.astype(back), strict=True)
