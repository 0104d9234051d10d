from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from edc_ray.artifacts.tables.codec import (
    ImageFormat,
    arrays_from_bytes,
    arrays_to_bytes,
    decode_image,
    encode_image,
    table_from_bytes,
    table_to_bytes,
)
from edc_ray.errors import ArtifactError


def _image(channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (channels, 5, 7), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_gives_back_the_same_pixels_and_channels(channels: int) -> None:
    image = _image(channels)
    np.testing.assert_array_equal(decode_image(encode_image(image)), image)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_keeps_shape_and_nearly_the_pixels_of_a_flat_image(channels: int) -> None:
    image = np.full((channels, 16, 16), 120, np.uint8)
    decoded = decode_image(encode_image(image, "jpeg", 95))
    assert decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - 120).max() <= 2


@pytest.mark.parametrize(
    ("image", "format"),
    [
        (np.zeros((2, 4, 4), np.uint8), "png"),
        (np.zeros((3, 4, 4), np.float32), "png"),
        (np.zeros((4, 4), np.uint8), "png"),
        (np.zeros((3, 4, 4), np.uint8), "gif"),
    ],
)
def test_what_is_no_image_is_refused(image: np.ndarray, format: ImageFormat) -> None:
    with pytest.raises(ValueError, match="image"):
        encode_image(image, format)


@pytest.mark.parametrize("keep", [0, 10, 60])
def test_a_truncated_image_is_named(keep: int) -> None:
    data = encode_image(_image(3))[:keep]
    with pytest.raises(ArtifactError, match=r"run/a\.parquet, image 3 cannot be decoded"):
        decode_image(data, url="run/a.parquet, image 3")


def _table() -> pa.Table:
    logits = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float16)
    columns = {
        "label": pa.array([0, 1, 2, 0, 1, 2], pa.int64()),
        "mix": pa.array(["none"] * 6).dictionary_encode(),
        "logits": pa.FixedSizeListArray.from_arrays(pa.array(logits.reshape(-1)), 4),
        "mean": pa.array([[1.5, 2.5]] * 6, pa.list_(pa.float32())),
    }
    return pa.table(columns, metadata={"edc_ray.schema_version": "1"})


def test_a_table_survives_parquet_with_types_and_metadata() -> None:
    back = table_from_bytes(table_to_bytes(_table(), rows_per_group=2), url="x")
    assert back.to_pydict() == _table().to_pydict()
    assert back.schema.metadata == _table().schema.metadata
    assert back.schema.field("logits").type.value_type == pa.float16()
    assert back.schema.field("mix").type == _table().schema.field("mix").type


def test_lists_of_floats_are_stored_as_split_bytes() -> None:
    columns = pq.read_metadata(pa.BufferReader(table_to_bytes(_table()))).row_group(0).to_dict()["columns"]
    encodings = {column["path_in_schema"]: column["encodings"] for column in columns}
    assert "BYTE_STREAM_SPLIT" in encodings["logits.list.element"]
    assert "BYTE_STREAM_SPLIT" in encodings["mean.list.element"]
    assert {column["compression"] for column in columns} == {"ZSTD"}


def test_the_same_table_gives_the_same_bytes() -> None:
    assert table_to_bytes(_table()) == table_to_bytes(_table())


@pytest.mark.parametrize("keep", [0, 3, 100, -1])
def test_a_truncated_table_is_named(keep: int) -> None:
    with pytest.raises(ArtifactError, match=r"s3://b/labels/x\.parquet is damaged"):
        table_from_bytes(table_to_bytes(_table())[:keep], url="s3://b/labels/x.parquet")


def test_arrays_survive_with_any_name_and_dtype() -> None:
    arrays = {
        "layer1.0|bn|sum": np.arange(6, dtype=np.float64).reshape(2, 3),
        "file": np.array([1, 2], np.int64),
        "a/b": np.array(3.5, np.float16),
        "empty": np.zeros((0, 4)),
    }
    data = arrays_to_bytes(arrays)
    assert data == arrays_to_bytes(arrays)
    back = arrays_from_bytes(data, url="x")
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array, strict=True)


def test_arrays_of_python_objects_are_neither_written_nor_read(tmp_path) -> None:
    objects = np.array([{"a": 1}], dtype=object)
    with pytest.raises(ValueError, match="Object arrays"):
        arrays_to_bytes({"a": objects})
    np.savez(tmp_path / "x.npz", a=objects)
    with pytest.raises(ArtifactError, match=r"x\.npz is damaged"):
        arrays_from_bytes((tmp_path / "x.npz").read_bytes(), url="x.npz")


@pytest.mark.parametrize("keep", [0, 5, 100, -3])
def test_truncated_arrays_are_named(keep: int) -> None:
    data = arrays_to_bytes({"a": np.arange(50.0)})[:keep]
    with pytest.raises(ArtifactError, match=r"part\.npz is damaged"):
        arrays_from_bytes(data, url="part.npz")
