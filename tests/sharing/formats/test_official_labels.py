"""Label files of the official programs: read without unpickling, exact in both directions."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edc_ray.artifacts.storage.store import open_store
from edc_ray.artifacts.tables.schema import LabelRows
from edc_ray.core.seeding import draws
from edc_ray.core.views.official_views import coordinates_from_views
from edc_ray.core.views.views import EpochViews, Mix, ViewSettings, draw_epoch_views
from edc_ray.data.condensed.label_rows import rows_of_views
from edc_ray.errors import ArtifactError, DataError
from edc_ray.sharing.formats.official_labels import (
    batch_from_bytes,
    batch_to_bytes,
    batches_of_epoch,
    list_batches,
    rows_of_epoch,
)
from tests.data.planted import Planted
from tests.goldens.official_draws import official_cutmix, official_view

SLOTS = [(label, ipc_id) for label in range(3) for ipc_id in range(2)]
PLACE = {slot: place for place, slot in enumerate(SLOTS)}


def official_items(index: list[int], side: int = 32, seed: int = 0) -> list[Any]:
    """What the official relabelling saves of a batch, from its own draws."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.RandomState(seed)
    views = [official_view((side, side), (0.08, 1.0), generator) for _ in index]
    mixing = official_cutmix(len(index), side, side, 1.0, generator, rng)
    row0, row1, column0, column1 = mixing.box
    return [
        torch.cat([coordinates_from_views(view, (side, side)) for view in views]),
        torch.cat([view.flip for view in views]),
        mixing.partner,
        mixing.lam,
        [np.int64(value) for value in (row0, column0, row1, column1)],
        torch.from_numpy(rng.normal(size=(len(index), 3))).half(),
        torch.tensor(index),
        torch.zeros(len(index), 2, 2, dtype=torch.int32),
    ]


def saved(items: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(items, buffer)
    return buffer.getvalue()


def rows_of(views: EpochViews, epoch: int = 0) -> LabelRows:
    labels, ipc_ids = np.array(SLOTS).T
    logits = draws(2, epoch).normal(len(views), 3).astype(np.float16)
    return rows_of_views(epoch, views, labels, ipc_ids, logits)


@pytest.mark.parametrize("items", [7, 8])
def test_a_file_of_the_official_program_is_read_as_it_was_saved(items: int) -> None:
    made = official_items([3, 0, 5, 1])[:items]
    batch = batch_from_bytes(saved(made))
    for mine, theirs in zip(
        (batch.coordinates, batch.flip, batch.partner, batch.logits, batch.index),
        (made[0], made[1], made[2], made[5], made[6]),
        strict=True,
    ):
        assert mine is not None
        assert torch.equal(mine, theirs)
    assert (batch.lam, batch.box) == (made[3], tuple(made[4]))


@pytest.mark.parametrize("layout", ["small", "imagenet"])
def test_a_file_of_ours_has_the_types_of_the_official_one(layout: str) -> None:
    made = official_items([3, 0, 5, 1])
    data = batch_to_bytes(batch_from_bytes(saved(made)), layout=layout)
    found = torch.load(io.BytesIO(data), weights_only=False)
    assert len(found) == {"small": 7, "imagenet": 8}[layout]
    for mine, theirs in zip(found, made, strict=False):
        assert type(mine) is type(theirs)
        if isinstance(theirs, torch.Tensor):
            assert mine.dtype == theirs.dtype
            assert torch.equal(mine, theirs)
    assert (found[3], found[4], type(found[4][0])) == (made[3], made[4], np.int64)


def test_views_of_a_file_are_replayed_exactly_at_the_sizes_in_use() -> None:
    for side in (32, 64, 128, 224):
        made = official_items([0, 1, 2, 3, 4, 5], side)
        rows = rows_of_epoch([batch_from_bytes(saved(made))], SLOTS, 3, side, 4)
        again = batches_of_epoch(rows, PLACE, side)[0]
        assert torch.equal(again.coordinates, made[0])
        assert (again.box, again.lam) == (tuple(made[4]), made[3])
        assert rows.epoch.tolist() == [4] * 6
        partner = [SLOTS[place] for place in made[2].tolist()]
        assert list(zip(rows.partner_label.tolist(), rows.partner_ipc_id.tolist(), strict=True)) == partner


@pytest.mark.parametrize("mix", ["cutmix", "mixup", "none"])
@pytest.mark.parametrize("group", [4, 6, 1])
def test_rows_written_as_batches_are_read_back(mix: Mix, group: int) -> None:
    settings = ViewSettings(crop_scale=(0.3, 1.0), mix=mix, mix_group=group)
    rows = rows_of(draw_epoch_views(0, 1, SLOTS, 32, settings), 1)
    files = [batch_to_bytes(batch) for batch in batches_of_epoch(rows, PLACE, 32)]
    again = rows_of_epoch([batch_from_bytes(data) for data in files], SLOTS, 3, 32, 1)
    for name in LabelRows.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(rows, name), err_msg=name)


@pytest.mark.parametrize("place", [0, 3, 4, 7])
def test_a_planted_pickle_is_refused_named_and_not_run(tmp_path: Path, place: int) -> None:
    items = official_items([0, 1, 2])
    items[place] = Planted(tmp_path / "owned")
    with pytest.raises(ArtifactError, match=r"x\.tar is not an official label file") as caught:
        batch_from_bytes(saved(items), url="x.tar")
    assert f"{os.mkdir.__module__}.mkdir" in str(caught.value.found)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("wrong", [np.array([1.0]), np.float32(1), torch.nn.Linear(1, 1), "text", {}, []])
def test_types_outside_the_allow_list_and_other_layouts_are_refused(wrong: Any) -> None:
    items = official_items([0, 1, 2])
    items[4] = wrong
    for content in (items, wrong):
        with pytest.raises(ArtifactError, match="not an official label file"):
            batch_from_bytes(saved(content))


def test_the_allow_list_ends_with_the_call() -> None:
    data = saved(official_items([0, 1, 2]))
    before = set(torch.serialization.get_safe_globals())
    batch_from_bytes(data)
    assert set(torch.serialization.get_safe_globals()) == before


@pytest.mark.parametrize("data", [b"", b"no zip at all", saved([1, 2])[:-30]])
def test_a_damaged_file_is_refused(data: bytes) -> None:
    with pytest.raises(ArtifactError, match="not an official label file"):
        batch_from_bytes(data)


def test_shuffled_patches_are_refused() -> None:
    items = official_items([0, 1])
    items[7] = items[7] + 1
    with pytest.raises(ArtifactError, match="shuffled patches"):
        batch_from_bytes(saved(items))


@pytest.mark.parametrize(
    ("index", "side", "classes", "match", "found"),
    [
        ([0, 1, 2, 3, 4, 6], 32, 3, "another image set", "dataset index 6"),
        ([0, 1, 2, 3, 4, -1], 32, 3, "another image set", "dataset index -1"),
        ([0, 1, 2, 3, 4], 32, 3, "another image set", "5 labels of 6 images, 0 of image 5"),
        ([0, 1, 2, 3, 4, 4], 32, 3, "another image set", "2 of image 4"),
        ([0, 1, 2, 3, 4, 5], 32, 4, "another dataset", "3 classes"),
        ([0, 1, 2, 3, 4, 5], 30, 3, "another image size", "off the grid"),
    ],
)
def test_labels_of_other_images_are_refused(
    index: list[int], side: int, classes: int, match: str, found: str
) -> None:
    batch = batch_from_bytes(saved(official_items(index)))
    with pytest.raises(DataError, match=match) as caught:
        rows_of_epoch([batch], SLOTS, classes, side, 0)
    assert found in str(caught.value.found)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"box": (0, 0, 33, 5)}, "box lies outside"),
        ({"partner": torch.tensor([0, 1, 2, 3, 4, 6])}, "partner lies outside"),
        ({"coordinates": torch.full((6, 4), 0.75)}, "another image size"),
    ],
)
def test_parameters_outside_the_images_are_refused(change: dict[str, Any], match: str) -> None:
    batch = replace(batch_from_bytes(saved(official_items(list(range(6))))), **change)
    with pytest.raises(DataError, match=match):
        rows_of_epoch([batch], SLOTS, 3, 32, 0)


def test_groups_that_are_no_batches_are_refused() -> None:
    rows = rows_of(draw_epoch_views(0, 0, SLOTS, 32, ViewSettings(mix_group=3)))
    for group in ([0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0]):
        with pytest.raises(ArtifactError, match="mixed in other groups"):
            batches_of_epoch(replace(rows, mix_group=np.array(group)), PLACE, 32)


@pytest.mark.parametrize(
    ("paths", "match", "found"),
    [
        ([], "no labels in", None),
        (["epoch_0/batch_0.tar", "notes.txt"], "other files than labels", "notes.txt"),
        (["epoch_00/batch_x.tar"], "other files than labels", "epoch_00/batch_x.tar"),
        (
            ["epoch_0/batch_0.tar", "epoch_2/batch_0.tar"],
            "1 label files are missing",
            "no epoch_1/batch_0.tar",
        ),
        (
            ["epoch_0/batch_0.tar", "epoch_0/batch_1.tar", "epoch_1/batch_1.tar"],
            "1 label files are missing",
            "no epoch_1/batch_0.tar",
        ),
    ],
)
def test_a_folder_with_gaps_or_strangers_is_refused(
    tmp_path: Path, paths: list[str], match: str, found: str | None
) -> None:
    store = open_store(str(tmp_path))
    for path in paths:
        store.publish(path, b"")
    with pytest.raises(DataError, match=match) as caught:
        list_batches(store)
    assert caught.value.found == found


def test_batches_are_listed_by_number() -> None:
    store = open_store("memory://labels-by-number")
    for batch in (10, 2, *range(2), *range(3, 10)):
        store.publish(f"epoch_0/batch_{batch}.tar", b"")
    assert list_batches(store) == [[f"epoch_0/batch_{batch}.tar" for batch in range(11)]]
