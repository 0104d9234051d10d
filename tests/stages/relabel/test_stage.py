"""relabel: labels belong to views that come back bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from edc_ray.core.labels.soft_labels import ensemble_logits
from edc_ray.core.views.views import render_views
from edc_ray.data.condensed.images import CondensedImages, CondensedViews, images_digest
from edc_ray.errors import ArtifactError
from edc_ray.stages.evaluate.rows import StoredRow
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.relabel import stage as relabel
from edc_ray.stages.relabel.stage import view_settings
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.image_shards import read_stage_images, slots_of
from edc_ray.stages.units.training import mean_and_std
from tests.stages.tiny_runs import OBSERVERS, image_hashes, manifest_of, units_of

Copied = Callable[..., StageContext]
MIXES = ["cutmix", "mixup", "none"]
MORE = {"relabel__patch_shuffle": 2, "relabel__rand_augment": True}
# Every way to mix, and every other parameter of a view.
VIEWS = [({"relabel__mix": mix}) for mix in MIXES] + [MORE]


def _labelled(copied: Copied, **fields: Any) -> StageContext:
    context = copied("relabel", "evaluate", **fields)
    run_pipeline(context, ["relabel"])
    return context


def _shards(context: StageContext) -> dict[str, str]:
    return {shard.path: shard.sha256 for shard in manifest_of(context, "relabel").shards}


@pytest.mark.parametrize("fields", VIEWS, ids=[*MIXES, "more"])
def test_stored_logits_are_those_of_the_replayed_views(copied: Copied, fields: dict[str, Any]) -> None:
    context = _labelled(copied, **fields)
    stored = CondensedViews(context.store.url)
    assert stored.num_epochs == 3
    for epoch in range(3):
        stored.set_epoch(epoch)
        views, logits, labels = stored.batch(np.arange(len(stored)))
        with torch.no_grad():
            now = torch.stack([context.observer(name)(views) for name in OBSERVERS]).mean(0)
        assert torch.equal(logits, now.half().float())
        assert sorted(labels.tolist()) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("fields", VIEWS, ids=[*MIXES, "more"])
@pytest.mark.parametrize("batch_size", [256, 4])
def test_views_read_one_by_one_are_bit_identical_with_what_was_labelled(
    copied: Copied, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], batch_size: int
) -> None:
    seen: list[torch.Tensor] = []

    def spying(*arguments: Any, **named: Any) -> torch.Tensor:
        seen.append(render_views(*arguments, **named))
        return seen[-1]

    monkeypatch.setattr(relabel, "render_views", spying)
    context = _labelled(copied, relabel__batch_size=batch_size, **fields)
    labelled = torch.cat(seen).unflatten(0, (3, 6))
    stored, row = CondensedViews(context.store.url), StoredRow(context)
    mean, std = mean_and_std(context)
    for epoch in (2, 0, 1):
        stored.set_epoch(epoch)
        trained = row.epoch(epoch)
        shown = render_views(trained.images, trained.views, np.arange(6), mean=mean, std=std)
        assert torch.equal(shown, labelled[epoch])
        for index in range(6):
            assert torch.equal(stored[index].image, labelled[epoch, index])
            assert torch.equal(stored[index].logits, torch.from_numpy(stored.rows.logits[index]).float())


def test_views_differ_between_epochs_and_every_image_is_seen_once_an_epoch(finished: StageContext) -> None:
    stored, crops = CondensedViews(finished.store.url), []
    for epoch in range(3):
        stored.set_epoch(epoch)
        assert sorted(stored.views.image.tolist()) == list(range(6))
        order = np.argsort(stored.views.image)
        boxes = np.stack([stored.rows.crop_top, stored.rows.crop_left, stored.rows.crop_height])
        crops.append(boxes[:, order])
    assert not np.array_equal(crops[0], crops[1])
    assert not np.array_equal(crops[1], crops[2])


def test_groups_share_their_mixing_box_and_partners_stay_inside(finished: StageContext) -> None:
    stored = CondensedViews(finished.store.url)
    views = stored.views
    assert views.group.tolist() == [0, 0, 0, 0, 1, 1]
    for group in (0, 1):
        mine = views.group == group
        assert len(np.unique(views.box[mine], axis=0)) == 1
        assert (views.group[views.partner[mine]] == group).all()
        assert sorted(views.partner[mine].tolist()) == np.flatnonzero(mine).tolist()


@pytest.mark.parametrize("epochs_per_unit", [1, 3])
def test_labels_do_not_depend_on_how_epochs_are_cut(
    copied: Copied, finished: StageContext, epochs_per_unit: int
) -> None:
    context = _labelled(copied, relabel__epochs_per_unit=epochs_per_unit)
    assert len(units_of(context, "relabel")) == 3 // epochs_per_unit
    mine, theirs = CondensedViews(context.store.url), CondensedViews(finished.store.url)
    for epoch in range(3):
        mine.set_epoch(epoch)
        theirs.set_epoch(epoch)
        for name in ("logits", "label", "ipc_id", "crop_top", "box_row0", "lam", "partner_label"):
            np.testing.assert_array_equal(getattr(mine.rows, name), getattr(theirs.rows, name))


def test_labels_of_small_batches_agree_up_to_rounding(copied: Copied, finished: StageContext) -> None:
    mine = CondensedViews(_labelled(copied, relabel__batch_size=2).store.url)
    theirs = CondensedViews(finished.store.url)
    np.testing.assert_allclose(mine.rows.logits, theirs.rows.logits, atol=2e-3)


def test_norm_balanced_labels_are_made_group_by_group(copied: Copied) -> None:
    context = _labelled(copied, relabel__label_norm="frobenius", relabel__batch_size=1)
    stored = CondensedViews(context.store.url)
    for rows in (np.arange(4), np.arange(4, 6)):
        views, logits, _ = stored.batch(rows)
        with torch.no_grad():
            now = ensemble_logits([context.observer(name)(views) for name in OBSERVERS], "frobenius")
        torch.testing.assert_close(logits, now.half().float(), atol=2e-3, rtol=0)


def test_a_digit_is_never_mirrored(finished: StageContext) -> None:
    stored = CondensedViews(finished.store.url)
    assert not stored.rows.flip.any()
    assert view_settings(finished).flip_probability == 0.0


def test_observers_of_relabel_can_be_chosen(copied: Copied) -> None:
    context = _labelled(copied, relabel__observers=["convnet_d1"])
    stored = CondensedViews(context.store.url)
    views, logits, _ = stored.batch(np.arange(6))
    with torch.no_grad():
        torch.testing.assert_close(logits, context.observer("convnet_d1")(views), atol=2e-3, rtol=0)


def test_units_follow_the_pixels_that_they_label(copied: Copied, finished: StageContext) -> None:
    context = copied("recover", "relabel", "evaluate", recover__iterations=4)
    run_pipeline(context, ["recover"])
    assert image_hashes(context) != image_hashes(finished)
    mine = [unit.fingerprint for unit in units_of(context, "relabel")]
    # The config differs too; what counts is the digest of the pixels.
    assert relabel.inputs(context, units_of(context, "relabel")[0]) != relabel.inputs(
        finished, units_of(finished, "relabel")[0]
    )
    assert set(mine).isdisjoint(unit.fingerprint for unit in units_of(finished, "relabel"))


def test_the_manifest_tells_a_reader_what_it_needs(finished: StageContext) -> None:
    meta = manifest_of(finished, "relabel").meta
    spec = finished.config.dataset
    assert meta["mean"] == list(spec.mean or ())
    assert meta["std"] == list(spec.std or ())
    assert (meta["epochs"], meta["codec"]) == (3, "fp16")
    assert meta["bytes"] == sum(shard.bytes for shard in manifest_of(finished, "relabel").shards)
    epochs = [record.meta["epochs"] for record in manifest_of(finished, "relabel").records]
    assert epochs == [[0, 1], [2, 2]]


def test_slots_are_in_the_order_of_the_images(finished: StageContext) -> None:
    rows = read_stage_images(finished, "recover")
    assert slots_of(rows) == [(label, ipc_id) for label in range(3) for ipc_id in range(2)]
    assert sorted(_shards(finished)) == ["epochs-00000-00001.parquet", "epochs-00002-00002.parquet"]


def test_labels_know_the_images_that_they_belong_to(finished: StageContext) -> None:
    meta = manifest_of(finished, "relabel").meta
    assert (
        meta["images"]
        == CondensedImages(finished.store.url).digest
        == images_digest(manifest_of(finished, "recover"))
    )


def test_where_students_are_labelled_online_nothing_is_stored_and_a_reader_is_told(copied: Copied) -> None:
    context = _labelled(copied, relabel__labels="online")
    manifest = manifest_of(context, "relabel")
    assert (manifest.records, manifest.meta["epochs"], manifest.meta["bytes"]) == ((), 0, 0)
    with pytest.raises(ArtifactError, match="holds no stored labels"):
        CondensedViews(context.store.url)
    assert run_pipeline(context, ["relabel"])[0].units_done == 0
