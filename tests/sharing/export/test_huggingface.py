"""The Hugging Face layout: load_dataset reads it, and so do our own readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edc_ray.artifacts.storage.store import open_store
from edc_ray.data.condensed.images import CondensedImages, CondensedViews
from edc_ray.sharing.card import dataset_card
from edc_ray.sharing.compress import compress_run
from edc_ray.sharing.export.options import ExportOptions
from edc_ray.sharing.export.run import export_run
from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import new_root

SMALL_FILES = ExportOptions("huggingface", shard_bytes=700)


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
