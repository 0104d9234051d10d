from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from edc_ray.artifacts.proof.manifest import write_unit
from edc_ray.artifacts.storage.layout import epochs_key, table_name
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.artifacts.tables.codec import table_to_bytes
from edc_ray.artifacts.tables.schema import LabelRows
from edc_ray.core.views.views import ViewSettings, draw_epoch_views
from edc_ray.data.condensed.images import open_stage, read_label_rows
from edc_ray.data.condensed.label_epochs import LabelEpochs
from edc_ray.data.condensed.label_rows import encoded_labels_table
from edc_ray.errors import ArtifactError
from tests.data.written_sets import NAMES, SIDE, SLOTS, finish, label_rows, write_images, write_labels


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "run"))


def _opened(store: Store) -> LabelEpochs:
    return LabelEpochs(*open_stage(store.url, None, "relabel"))


def _finish_unit(store: Store, key: str, shard: tuple[bytes, int], epochs: list[int]) -> None:
    finish(
        store, "labels", [write_unit(store, "labels", key, "f", {table_name(key): shard}, {"epochs": epochs})]
    )


def _assert_equal(one: LabelRows, other: LabelRows) -> None:
    for name, column in vars(one).items():
        np.testing.assert_array_equal(column, getattr(other, name))


@pytest.mark.parametrize("epochs_per_group", [1, 2, 5])
@pytest.mark.parametrize("codec", ["fp16", "q4", "pca2", "top2", "top1_q6", "pca2_top1_q4"])
def test_an_epoch_by_row_groups_equals_that_of_whole_files(
    store: Store, codec: str, epochs_per_group: int
) -> None:
    units = ((0, 4), (5, 6))
    write_labels(store, write_images(store), codec=codec, units=units, epochs_per_group=epochs_per_group)
    opened, folder, manifest = open_stage(store.url, None, "relabel")
    whole = LabelRows.concatenate([read_label_rows(opened, folder, record) for record in manifest.records])
    epochs = LabelEpochs(opened, folder, manifest)
    for epoch in (3, 0, 6, 1, 4):
        _assert_equal(epochs.read(epoch), whole.take(np.flatnonzero(whole.epoch == epoch)))


def test_rows_of_an_epoch_that_lie_apart_are_all_found(store: Store) -> None:
    parts = [label_rows(draw_epoch_views(0, k, SLOTS, SIDE, ViewSettings()), k) for k in range(2)]
    both = LabelRows.concatenate(parts)
    mixed = both.take(np.arange(len(both)).reshape(2, -1).T.reshape(-1))
    key = epochs_key(0, 1)
    shard = (table_to_bytes(encoded_labels_table(mixed, NAMES, codec="pca2"), rows_per_group=5), len(both))
    finish(
        store, "labels", [write_unit(store, "labels", key, "f", {table_name(key): shard}, {"epochs": [0, 1]})]
    )
    opened, folder, manifest = open_stage(store.url, None, "relabel")
    whole = read_label_rows(opened, folder, manifest.records[0])
    _assert_equal(_opened(store).read(1), whole.take(np.flatnonzero(whole.epoch == 1)))


def test_an_epoch_without_all_its_rows_is_refused(store: Store) -> None:
    views = draw_epoch_views(0, 0, SLOTS, SIDE, ViewSettings())
    rows = LabelRows.concatenate([label_rows(views, 0), label_rows(views, 1).take(np.arange(2))])
    key = epochs_key(0, 1)
    shard = (table_to_bytes(encoded_labels_table(rows, NAMES, codec="fp16")), len(rows))
    finish(
        store, "labels", [write_unit(store, "labels", key, "f", {table_name(key): shard}, {"epochs": [0, 1]})]
    )
    with pytest.raises(ArtifactError, match="a part of the labels of epoch 1") as caught:
        _opened(store).read(1)
    assert (caught.value.found, caught.value.expected) == ("2 rows", "4 rows")


def test_a_file_that_is_no_table_of_labels_is_named(store: Store) -> None:
    _finish_unit(store, epochs_key(0, 0), (b"not parquet", 1), [0, 0])
    with pytest.raises(ArtifactError, match=r"epochs-00000-00000.parquet is damaged"):
        _opened(store).read(0)


def test_a_reader_goes_to_another_process_without_its_open_file(store: Store) -> None:
    write_labels(store, write_images(store))
    epochs = _opened(store)
    first = epochs.read(0)
    _assert_equal(pickle.loads(pickle.dumps(epochs)).read(0), first)
