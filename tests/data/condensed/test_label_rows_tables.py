from __future__ import annotations

from dataclasses import fields

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edc_ray.artifacts.tables.codec import table_from_bytes, table_to_bytes
from edc_ray.artifacts.tables.schema import VIEW_COLUMNS, LabelRows, build_labels_table, read_labels_table
from edc_ray.data.condensed.label_rows import decoded_label_rows, encoded_labels_table, rounded_by
from edc_ray.errors import ArtifactError, ConfigError

COUNT, CLASSES = 40, 12
NAMES = tuple(f"class {label}" for label in range(CLASSES))
CODECS = ("q8", "q3", "top4", "top4_q5", "pca24", "pca24_top3t20_q6")


def _rows() -> LabelRows:
    rng = np.random.default_rng(0)
    names = [column.name for column in fields(LabelRows) if column.name not in VIEW_COLUMNS]
    special = {
        "flip": rng.random(COUNT) < 0.5,
        "mix": np.array(["cutmix"] * COUNT),
        "lam": rng.random(COUNT),
        "logits": rng.normal(size=(COUNT, CLASSES), scale=4).astype(np.float16),
    }
    return LabelRows(**({name: rng.integers(0, 12, COUNT) for name in names} | special))


def _stored(codec: str) -> pa.Table:
    table = encoded_labels_table(_rows(), NAMES, codec=codec, dataset="pets")
    return table_from_bytes(table_to_bytes(table, rows_per_group=10), url="x.parquet")


@pytest.mark.parametrize("codec", CODECS)
def test_views_come_back_as_they_were_and_logits_as_the_codec_rounds_them(codec: str) -> None:
    rows, back = _rows(), decoded_label_rows(_stored(codec))
    for column in fields(LabelRows):
        if column.name != "logits":
            np.testing.assert_array_equal(getattr(back, column.name), getattr(rows, column.name))
    assert back.logits.dtype == np.float16
    np.testing.assert_array_equal(back.logits, rounded_by(codec, rows.logits))
    assert (back.logits != rows.logits).any()


def test_half_precision_is_the_table_without_a_codec() -> None:
    table = encoded_labels_table(_rows(), NAMES, codec="fp16", dataset="pets")
    assert table_to_bytes(table) == table_to_bytes(build_labels_table(_rows(), NAMES, dataset="pets"))
    np.testing.assert_array_equal(decoded_label_rows(table).logits, _rows().logits)


def test_a_reader_that_knows_no_codecs_is_told_by_the_version() -> None:
    for codec, version in (("fp16", b"1"), ("q8", b"3")):
        metadata = _stored(codec).schema.metadata
        assert metadata[b"edc_ray.schema_version"] == version
        assert metadata[b"edc_ray.label_codec"] == codec.encode()
    with pytest.raises(ArtifactError, match="lacks columns"):
        read_labels_table(_stored("q8"))


def test_a_codec_that_does_not_exist_is_neither_written_nor_read() -> None:
    with pytest.raises(ConfigError, match="not a label codec"):
        encoded_labels_table(_rows(), NAMES, codec="jpeg")
    table = _stored("q8")
    newer = table.replace_schema_metadata(table.schema.metadata | {b"edc_ray.label_codec": b"zip9"})
    with pytest.raises(ArtifactError, match=r"a\.parquet holds labels of an unknown codec") as caught:
        decoded_label_rows(newer, url="a.parquet")
    assert "zip9" in str(caught.value)


@pytest.mark.parametrize("codec", CODECS)
def test_columns_of_another_codec_are_refused_with_their_file(codec: str) -> None:
    other = "q5" if codec != "q5" else "q8"
    table = _stored(codec)
    changed = table.replace_schema_metadata(table.schema.metadata | {b"edc_ray.label_codec": other.encode()})
    with pytest.raises(ArtifactError, match=r"a\.parquet holds damaged logits"):
        decoded_label_rows(changed, url="a.parquet")


@given(st.sampled_from(CODECS), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_random_bytes_in_the_columns_are_logits_or_are_refused(codec: str, seed: int) -> None:
    table, rng = _stored(codec), np.random.default_rng(seed)
    for place, field in enumerate(table.schema):
        if field.name.startswith("logits") and field.type == pa.binary() and field.name != "logits_shared":
            width = len(table.column(field.name)[0].as_py())
            noise = pa.array([rng.bytes(width) for _ in range(COUNT)], pa.binary())
            table = table.set_column(place, field, noise)
    try:
        logits = decoded_label_rows(table).logits
    except ArtifactError:
        return
    assert np.isfinite(logits).all()
    assert logits.shape == (COUNT, CLASSES)


def test_stored_logits_that_are_not_finite_are_refused() -> None:
    table = _stored("fp16")
    place = table.column_names.index("logits")
    values = np.zeros((COUNT, CLASSES), np.float16)
    values[3, 3] = np.inf
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), CLASSES)
    with pytest.raises(ArtifactError, match=r"a\.parquet holds soft labels that are NaN or Inf"):
        decoded_label_rows(table.set_column(place, "logits", column), url="a.parquet")
