from __future__ import annotations

import uuid
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from edc_ray.artifacts.proof.manifest import read_manifest, write_unit
from edc_ray.artifacts.proof.records import Manifest, to_json
from edc_ray.artifacts.storage.layout import block_key, epochs_key, manifest_path, table_name
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.artifacts.tables.codec import table_to_bytes
from edc_ray.artifacts.tables.schema import build_labels_table
from edc_ray.core.pixels import normalise
from edc_ray.core.views.views import Mix, ViewSettings, draw_epoch_views
from edc_ray.data.condensed.images import CondensedImages, CondensedViews, images_digest
from edc_ray.errors import ArtifactError
from tests.data.written_sets import (
    EPOCHS,
    MEAN,
    NAMES,
    SIDE,
    SLOTS,
    STD,
    finish,
    label_rows,
    write_images,
    write_label_unit,
    write_labels,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "run"))


def test_a_set_says_what_it_holds(store: Store) -> None:
    write_images(store)
    images = CondensedImages(store)
    assert repr(images) == f"CondensedImages: {len(SLOTS)} of {len(NAMES)} classes, {images.images.shape[1:]}"


def test_images_come_by_label_and_ipc_id_as_floats(store: Store) -> None:
    images = write_images(store)
    condensed = CondensedImages(store.url)
    np.testing.assert_array_equal(condensed.images, images)
    assert list(zip(condensed.labels.tolist(), condensed.ipc_ids.tolist(), strict=True)) == SLOTS
    image, label = condensed[3]
    torch.testing.assert_close(image, torch.from_numpy(images[3]) / 255)
    assert (label, condensed.class_names, condensed.mean) == (1, NAMES, MEAN)


@pytest.mark.parametrize("kind", ["folder", "file url", "memory"])
def test_images_are_found_by_the_url_of_the_run_or_of_its_folder(store: Store, kind: str) -> None:
    if kind == "memory":
        store = open_store(f"memory://{uuid.uuid4().hex}/run")
    write_images(store)
    url = {"folder": store.join("condensed"), "file url": f"file://{store.url}", "memory": store.url}[kind]
    assert len(CondensedImages(url)) == len(SLOTS)


def test_a_transform_is_applied_and_a_loader_makes_batches(store: Store) -> None:
    write_images(store)
    condensed = CondensedImages(store.url, transform=lambda image: normalise(image, MEAN, STD))
    images, labels = next(iter(DataLoader(condensed, batch_size=4)))
    assert (images.shape, labels.tolist()) == ((4, 3, SIDE, SIDE), [0, 0, 1, 1])
    assert images.min() < 0


def test_what_is_not_there_says_what_to_do(store: Store) -> None:
    with pytest.raises(ArtifactError, match=r"(?s)stage recover is not complete.*nothing there") as caught:
        CondensedImages(store.url)
    assert "give the URL of a run" in str(caught.value)
    write_images(store)
    with pytest.raises(ArtifactError, match="stage relabel is not complete") as caught:
        CondensedViews(store.url)
    assert f"label them in another run: init.source={store.url} recover.enabled=false" in str(caught.value)
    store.publish("run.yaml", b"")
    for stage, reader in (("relabel", CondensedViews), ("init", partial(CondensedImages, stage="init"))):
        with pytest.raises(ArtifactError, match=f"stage {stage} is not complete") as caught:
            reader(store.url)
        assert f"edc-ray stage {stage} RECIPE" in str(caught.value)


def test_files_that_no_manifest_names_are_not_read(store: Store) -> None:
    write_images(store)
    store.publish("condensed/stray.parquet", b"not parquet")
    assert len(CondensedImages(store.url)) == len(SLOTS)


def test_a_truncated_shard_is_named(store: Store) -> None:
    write_images(store)
    name = f"condensed/{table_name(block_key(0, 0, 0, 1))}"
    store.publish(name, store.read(name)[:-10], replace=True)
    with pytest.raises(ArtifactError, match=f"{name} is damaged"):
        CondensedImages(store.url)


@pytest.mark.parametrize("mix", ["cutmix", "mixup", "none"])
def test_views_are_bit_for_bit_those_that_were_labelled(store: Store, mix: Mix) -> None:
    expected = write_labels(store, write_images(store), mix)
    views = CondensedViews(store.url)
    for epoch, (images, rows) in enumerate(expected):
        views.set_epoch(epoch)
        got, logits, labels = views.batch(range(len(views)))
        assert torch.equal(got, images)
        np.testing.assert_array_equal(logits.numpy(), rows.logits.astype(np.float32))
        np.testing.assert_array_equal(labels.numpy(), rows.label)


def test_a_view_does_not_depend_on_its_batch(store: Store) -> None:
    expected = write_labels(store, write_images(store))
    views = CondensedViews(store.url, epoch=1)
    for index in range(len(views)):
        image, logits, label = views[index]
        assert torch.equal(image, expected[1][0][index])
        assert (logits.shape, label) == ((3,), expected[1][1].label[index])


def test_a_loader_with_shuffling_makes_batches_of_views(store: Store) -> None:
    write_labels(store, write_images(store))
    loader = DataLoader(CondensedViews(store.url), batch_size=5, shuffle=True)
    sizes = [(len(batch.image), batch.logits.shape[1], batch.label.dtype) for batch in loader]
    assert sizes == [(5, 3, torch.int64), (1, 3, torch.int64)]


@pytest.mark.parametrize("name", ["epoch", "rows", "views"])
def test_what_is_shown_of_an_epoch_cannot_be_set(store: Store, name: str) -> None:
    expected = write_labels(store, write_images(store))
    views = CondensedViews(store.url)
    with pytest.raises(AttributeError):
        setattr(views, name, 1)
    views.set_epoch(1)
    assert torch.equal(views.batch([0])[0], expected[1][0][:1])


def test_an_epoch_that_is_not_stored_is_refused(store: Store) -> None:
    write_labels(store, write_images(store))
    views = CondensedViews(store.url)
    assert views.num_epochs == EPOCHS
    with pytest.raises(ArtifactError, match="no labels of epoch 3") as caught:
        views.set_epoch(3)
    assert caught.value.found == "3 epochs"
    assert caught.value.expected == "an epoch of 0..2"
    assert "raise relabel.epochs" in str(caught.value)
    with pytest.raises(ArtifactError, match="no labels of epoch -1"):
        CondensedViews(store.url, epoch=-1)


def test_labels_of_another_image_set_are_refused(store: Store) -> None:
    write_labels(store, write_images(store))
    condensed, labels = (read_manifest(store, folder) for folder in ("condensed", "labels"))
    assert condensed is not None
    assert labels is not None

    def images_of(pixels: str) -> Manifest:
        stated = {"image_sha256": [[0, 0, pixels]]}
        return replace(condensed, records=tuple(replace(one, meta=stated) for one in condensed.records))

    store.publish(manifest_path("condensed"), to_json(images_of("a")), replace=True)
    for pixels in ("a", "b"):
        made_from = {"images": images_digest(images_of(pixels))}
        store.publish(manifest_path("labels"), to_json(replace(labels, meta=made_from)), replace=True)
        if pixels == "a":
            assert len(CondensedViews(store.url)) == len(SLOTS)
    with pytest.raises(ArtifactError, match="belong to another image set") as caught:
        CondensedViews(store.url)
    assert "edc-ray stage relabel" in str(caught.value)


def test_labels_of_other_classes_are_refused(store: Store) -> None:
    images = write_images(store)
    views = draw_epoch_views(0, 0, SLOTS, SIDE, ViewSettings(mix="none"))
    rows = label_rows(views, 0)
    wide = replace(rows, logits=np.zeros((len(rows), 4), np.float16))
    key = epochs_key(0, 0)
    shard = (table_to_bytes(build_labels_table(wide, (*NAMES, "yak"))), len(rows))
    unit = write_unit(store, "labels", key, "f", {table_name(key): shard}, {"epochs": [0, 0]})
    finish(store, "labels", [unit])
    assert len(images) == len(SLOTS)
    with pytest.raises(ArtifactError, match="have other classes than the images") as caught:
        CondensedViews(store.url)
    assert (caught.value.found, caught.value.expected) == ("4 classes", "3 classes")


def test_a_run_that_stored_no_labels_says_why(store: Store) -> None:
    write_images(store)
    finish(store, "labels", [], labels="online")
    with pytest.raises(ArtifactError, match="holds no stored labels") as caught:
        CondensedViews(store.url)
    assert "labelled online" in str(caught.value)


def test_the_digest_of_images_does_not_depend_on_how_they_are_cut(store: Store) -> None:
    write_images(store)
    manifest = read_manifest(store, "condensed")
    assert manifest is not None
    record = manifest.records[0]
    assert images_digest(manifest) is None  # these records do not state their images
    hashes = [[0, 0, "a"], [0, 1, "b"], [1, 0, "c"]]
    cuts = [(hashes,), (hashes[1:], hashes[:1]), (hashes[:2], [[1, 0, "d"]])]
    digests = [
        images_digest(
            replace(manifest, records=tuple(replace(record, meta={"image_sha256": part}) for part in cut))
        )
        for cut in cuts
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"ipc_id": np.array([9])}, "not in the condensed set: label 1, ipc_id 9"),
        ({"partner_ipc_id": np.array([9])}, "not in the condensed set: label 1, ipc_id 9"),
    ],
)
def test_label_rows_of_other_images_are_refused(
    store: Store, change: dict[str, np.ndarray], match: str
) -> None:
    write_images(store)
    views = draw_epoch_views(0, 0, SLOTS, SIDE, ViewSettings(mix="none"))
    row = label_rows(views, 0).take(np.array([0]))
    stray = replace(row, label=np.array([1]), partner_label=np.array([1]), ipc_id=np.array([0]))
    finish(store, "labels", [write_label_unit(store, replace(stray, **change), 0, 0)])
    with pytest.raises(ArtifactError, match=match):
        CondensedViews(store.url)
