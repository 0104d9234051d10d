"""Tables as Hugging Face reads them."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from edc_ray.artifacts.tables.codec import encode_image, table_from_bytes, table_to_bytes
from edc_ray.artifacts.tables.schema import read_images_table
from edc_ray.artifacts.tables.shared_tables import (
    SharedImage,
    build_shared_images_table,
    rows_of_epoch,
    shared_labels_table,
)

NAMES = ("cat", "dog")


def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)


def shared() -> pa.Table:
    rows = [
        SharedImage(encode_image(image), f"{label}.png", label, 4) for label, image in enumerate(pictures())
    ]
    return build_shared_images_table(rows, NAMES, dataset="pets")


def test_the_table_is_one_of_ours_and_has_the_columns_that_others_look_for() -> None:
    table = table_from_bytes(table_to_bytes(shared()), url="a")
    assert table.column_names == ["image", "label", "class_id", "class_name", "ipc_id"]
    rows = read_images_table(table)
    np.testing.assert_array_equal(rows.images, pictures())
    assert (rows.labels.tolist(), rows.ipc_ids.tolist(), rows.class_names) == ([0, 1], [4, 4], NAMES)
    assert table.column("class_id").to_pylist() == table.column("label").to_pylist()
    assert table.column("class_name").to_pylist() == list(NAMES)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["label"] == {"names": list(NAMES), "_type": "ClassLabel"}
    assert list(features) == table.column_names


def test_the_datasets_library_sees_images_and_class_names(tmp_path_factory: pytest.TempPathFactory) -> None:
    datasets = pytest.importorskip("datasets")
    folder = tmp_path_factory.mktemp("shared")
    (folder / "a.parquet").write_bytes(table_to_bytes(shared()))
    read = datasets.Dataset.from_parquet(str(folder / "a.parquet"), cache_dir=str(folder / "cache"))
    assert read.features["label"].names == list(NAMES)
    np.testing.assert_array_equal(np.asarray(read[1]["image"]).transpose(2, 0, 1), pictures()[1])


def test_later_epochs_are_left_out_and_texts_are_texts() -> None:
    mix = pa.array(["none", "cutmix", "none", "none"]).dictionary_encode()
    table = pa.table({"epoch": pa.array([0, 0, 0, 1], pa.int32()), "mix": mix}, metadata={"kept": "yes"})
    read = shared_labels_table(table, 1)
    assert read.schema.field("mix").type == pa.string()
    assert read.column("mix").to_pylist() == ["none", "cutmix", "none"]
    assert read.schema.metadata == {b"kept": b"yes"}
    assert rows_of_epoch(table) == 3
    assert shared_labels_table(table, 2).num_rows == 4
