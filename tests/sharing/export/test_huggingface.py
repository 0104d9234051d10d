"""The Hugging Face layout: load_dataset reads it, and so do our own readers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from edc_ray.artifacts.storage.store import open_store
from edc_ray.artifacts.tables.codec import encode_image, table_from_bytes, table_to_bytes
from edc_ray.artifacts.tables.schema import read_images_table
from edc_ray.data.condensed.images import CondensedImages, CondensedViews
from edc_ray.sharing.card import dataset_card
from edc_ray.sharing.compress import compress_run
from edc_ray.sharing.export.huggingface import rows_of_epoch, shared_images_table, shared_labels_table
from edc_ray.sharing.export.options import ExportOptions
from edc_ray.sharing.export.run import export_run
from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import new_root

SMALL_FILES = ExportOptions("huggingface", shard_bytes=700)


NAMES = ("cat", "dog")


def pictures() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)


def shared() -> pa.Table:
    images = {(label, 4): encode_image(image) for label, image in enumerate(pictures())}
    return shared_images_table(images, NAMES, dataset="pets")


def check_views(ours: CondensedViews, theirs: CondensedViews, epochs: int) -> None:
    assert theirs.num_epochs == epochs
    assert (ours.mean, ours.std, ours.class_names) == (theirs.mean, theirs.std, theirs.class_names)
    for epoch in range(epochs):
        ours.set_epoch(epoch)
        theirs.set_epoch(epoch)
        for mine, other in zip(ours.batch(range(6)), theirs.batch(range(6)), strict=True):
            np.testing.assert_array_equal(mine.numpy(), other.numpy())


@pytest.mark.parametrize("epochs", [None, 1])
@pytest.mark.parametrize("codec", ["fp16", "q8", "top2_q6", "pca2"])
def test_our_readers_open_the_copy_as_it_is(finished: StageContext, codec: str, epochs: int | None) -> None:
    url, dest = finished.store.url, new_root()
    if codec != "fp16":
        url = new_root()
        compress_run(finished.store.url, url, codec=codec)
    export_run(url, dest, ExportOptions("huggingface", shard_bytes=700, epochs=epochs))
    check_views(CondensedViews(url), CondensedViews(dest), epochs or 3)
    if codec != "fp16":  # nothing is told of the run that it was compressed from
        assert not any(
            finished.store.url.encode() in open_store(dest).read(p) for p in open_store(dest).list()
        )


def test_fewer_images_are_a_set_of_their_own(finished: StageContext) -> None:
    dest = new_root()
    export_run(finished.store.url, dest, ExportOptions("huggingface", ipc=1))
    ours, theirs = CondensedImages(finished.store.url), CondensedImages(dest)
    np.testing.assert_array_equal(theirs.images, ours.images[ours.ipc_ids == 0])
    assert not open_store(dest).list("labels")


def test_jpeg_is_what_the_manifest_says(finished: StageContext) -> None:
    dest = new_root()
    export_run(finished.store.url, dest, ExportOptions("huggingface", image_format="jpeg"))
    assert CondensedImages(dest).digest not in (None, CondensedImages(finished.store.url).digest)


def test_load_dataset_gives_images_names_and_labels(finished: StageContext, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    out, cache = str(tmp_path / "out"), str(tmp_path / "cache")
    export_run(finished.store.url, out, SMALL_FILES, dataset_card)
    read = datasets.load_dataset(out, split="train", cache_dir=cache)
    ours = CondensedImages(finished.store.url)
    assert read.column_names == ["image", "label", "class_id", "class_name", "ipc_id"]
    assert read.features["label"].names == list(ours.class_names)
    assert read["class_id"][:] == read["label"][:] == ours.labels.tolist()
    for row, expected in zip(read, ours.images, strict=True):
        np.testing.assert_array_equal(np.asarray(row["image"].convert("L")), expected[0])
    labels = datasets.load_dataset(out, "labels", split="train", cache_dir=cache)
    views = CondensedViews(finished.store.url)
    assert len(labels) == 3 * len(views)
    np.testing.assert_array_equal(np.array(labels["logits"][: len(views)]), views.rows.logits)


def test_a_second_set_in_a_folder_of_the_same_name_is_not_taken_for_the_first(
    finished: StageContext, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("datasets")
    cache, read = str(tmp_path / "cache"), []
    for name, ipc in (("a", 1), ("b", None)):
        out = str(tmp_path / name / "exported")
        export_run(finished.store.url, out, ExportOptions("huggingface", ipc=ipc), dataset_card)
        read.append(datasets.load_dataset(out, "images", split="train", cache_dir=cache))
    assert [len(images) for images in read] == [len(read[0]), len(CondensedImages(finished.store.url))]
    assert len(read[0]) < len(read[1])


@pytest.mark.parametrize("codec", ["fp16", "q8"])
def test_duckdb_reads_the_logits_of_a_copy(finished: StageContext, codec: str, tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    url, out = finished.store.url, str(tmp_path / "out")
    if codec != "fp16":  # two commands then: compress to fp16, export
        encoded, url = new_root(), new_root()
        compress_run(finished.store.url, encoded, codec=codec)
        compress_run(encoded, url, codec="fp16")
    export_run(url, out, ExportOptions("huggingface"))
    found = duckdb.sql(f"SELECT logits FROM '{out}/labels/*.parquet' WHERE epoch = 1 ORDER BY label, ipc_id")
    rows = CondensedViews(url, epoch=1).rows
    expected = rows.logits[np.lexsort((rows.ipc_id, rows.label))].astype(np.float32)
    np.testing.assert_array_equal(np.array([logits for (logits,) in found.fetchall()]), expected)


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
