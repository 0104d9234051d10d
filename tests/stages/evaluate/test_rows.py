"""The rows of a result: which images, which views, which labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from edc_ray.core.views.views import render_views
from edc_ray.stages.evaluate.rows import (
    EpochOfRow,
    epochs_of,
    joined,
    labels_are_made,
    random_slots,
    row_digest,
    row_of,
)
from edc_ray.stages.relabel.stage import label_views, rendered
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.image_shards import read_stage_images
from edc_ray.stages.units.training import mean_and_std
from tests.stages.tiny_runs import OBSERVERS

Copied = Callable[..., StageContext]
ROWS = ["condensed", "init", "random", "random_hard", "full"]


@pytest.mark.parametrize("name", ROWS)
def test_every_row_shows_as_many_views_an_epoch_and_the_same_again(finished: StageContext, name: str) -> None:
    for number in range(3):
        first, again = (row_of(finished, name, 0).epoch(number) for _ in range(2))
        assert len(first.views) == len(first.labels) == len(first.logits) == 6
        assert first.images.dtype == torch.uint8
        assert torch.equal(first.images, again.images)
        assert torch.equal(first.logits, again.logits)
        assert torch.equal(first.labels, again.labels)


@pytest.mark.parametrize("name", ROWS)
def test_joined_epochs_show_the_views_of_each_with_their_labels(finished: StageContext, name: str) -> None:
    row = row_of(finished, name, 0)
    epochs = [row.epoch(number) for number in range(3)]
    together = joined(epochs)
    assert (together.images is epochs[0].images) == (name != "full")
    expected = [rendered(finished, each.images, each.views, np.arange(6)) for each in epochs]
    found = rendered(finished, together.images, together.views, np.arange(18))
    assert torch.equal(found, torch.cat(expected))
    assert torch.equal(together.logits, torch.cat([each.logits for each in epochs]))
    assert torch.equal(together.labels, torch.cat([each.labels for each in epochs]))


@pytest.mark.parametrize("name", ["init", "random", "full"])
def test_labels_of_a_row_are_the_observers_of_its_own_views(finished: StageContext, name: str) -> None:
    epoch = row_of(finished, name, 1).epoch(2)
    mean, std = mean_and_std(finished)
    views = render_views(epoch.images, epoch.views, np.arange(6), mean=mean, std=std)
    with torch.no_grad():
        now = torch.stack([finished.observer(observer)(views) for observer in OBSERVERS]).mean(0)
    torch.testing.assert_close(epoch.logits, now, atol=2e-3, rtol=1e-3)


def test_labels_are_made_of_rows_without_stored_ones_unless_they_are_the_classes(
    finished: StageContext, copied: Copied
) -> None:
    online = copied("relabel", "evaluate", relabel__labels="online")
    assert [name for name in ROWS if labels_are_made(finished, name)] == ["init", "random", "full"]
    assert [name for name in ROWS if labels_are_made(online, name)] == [
        "condensed", "init", "random", "full"
    ]  # fmt: skip


def test_the_condensed_row_has_the_labels_that_relabelling_now_would_give(finished: StageContext) -> None:
    epoch = row_of(finished, "condensed", 0).epoch(1)
    now = label_views(finished, epoch.images, epoch.views)
    np.testing.assert_array_equal(epoch.logits.numpy(), now.astype(np.float32))


def test_condensed_and_init_differ_in_their_images_alone(finished: StageContext) -> None:
    condensed, init = (row_of(finished, name, 0).epoch(1) for name in ("condensed", "init"))
    assert not torch.equal(condensed.images, init.images)
    np.testing.assert_array_equal(init.images.numpy(), read_stage_images(finished, "init").images)
    for name in ("image", "group", "partner", "box", "lam"):
        np.testing.assert_array_equal(getattr(condensed.views, name), getattr(init.views, name))
    for name in ("top", "left", "height", "width", "flip"):
        assert torch.equal(
            getattr(condensed.views.crops, name).long(), getattr(init.views.crops, name).long()
        )
    assert torch.equal(condensed.labels, init.labels)


def test_random_images_are_redrawn_for_each_seed_and_are_real_images_of_their_class(
    finished: StageContext,
) -> None:
    train, sets = finished.data.train, []
    for seed in range(4):
        slots = random_slots(finished, seed)
        assert [label for label, _ in slots] == [0, 0, 1, 1, 2, 2]
        assert all(train.labels[index] == label for label, index in slots)
        assert len({index for _, index in slots}) == 6
        images = row_of(finished, "random", seed).epoch(0).images
        np.testing.assert_array_equal(images.numpy(), train.fetch([index for _, index in slots]))
        sets.append(tuple(slots))
    assert len(set(sets)) == 4


def test_a_class_smaller_than_ipc_repeats_its_images_evenly(copied: Copied) -> None:
    context = copied("relabel", "evaluate", "recover", "init", ipc=30)
    chosen = [index for label, index in random_slots(context, 0) if label == 1]
    counts = np.unique(chosen, return_counts=True)[1]
    assert len(chosen) == 30
    assert sorted(set(counts.tolist())) == [2, 3]


def test_random_hard_shows_the_images_of_random_with_class_labels_only(finished: StageContext) -> None:
    soft, hard = (row_of(finished, name, 3) for name in ("random", "random_hard"))
    assert (soft.hard, hard.hard) == (False, True)
    a, b = soft.epoch(1), hard.epoch(1)
    assert torch.equal(a.images, b.images)
    assert torch.equal(a.labels, b.labels)
    assert a.views.mix == "cutmix"
    # A class label does not tell what was pasted: hard rows see whole images, cropped as the others.
    assert b.views.mix == "none"
    assert torch.equal(a.views.crops.top, b.views.crops.top)


def _shown(epoch: EpochOfRow) -> list[bytes]:
    return [image.numpy().tobytes() for image in epoch.images]


def test_the_full_row_walks_over_all_images_before_any_comes_again(finished: StageContext) -> None:
    row, train = row_of(finished, "full", 0), finished.data.train
    everything = sorted(image.tobytes() for image in train.fetch(np.arange(len(train))))
    # Six of 36 images an epoch.
    for turn in range(2):
        walk = [image for number in range(6 * turn, 6 * turn + 6) for image in _shown(row.epoch(number))]
        assert sorted(walk) == everything


def test_the_full_row_walks_on_where_an_epoch_crosses_the_end_of_a_pass(copied: Copied) -> None:
    context = copied("init", "recover", "relabel", "evaluate", ipc=5, relabel__epochs=12)
    row, train = row_of(context, "full", 0), context.data.train
    walk = [image for number in range(12) for image in _shown(row.epoch(number))]
    everything = sorted(image.tobytes() for image in train.fetch(np.arange(len(train))))
    assert len(walk) == 180
    for first in range(0, 180, 36):
        assert sorted(walk[first : first + 36]) == everything
    assert walk[:36] != walk[36:72]


def test_the_full_row_of_another_seed_has_another_order_and_right_labels(finished: StageContext) -> None:
    a, b = (row_of(finished, "full", seed).epoch(0) for seed in (0, 1))
    assert _shown(a) != _shown(b)
    train = finished.data.train
    label_of = {train.fetch([i])[0].tobytes(): int(train.labels[i]) for i in range(len(train))}
    shown = [label_of[a.images[int(image)].numpy().tobytes()] for image in a.views.image]
    assert a.labels.tolist() == shown


def test_a_row_is_known_by_what_it_reads(copied: Copied, finished: StageContext) -> None:
    digests: dict[str, Any] = {name: str(row_digest(finished, name)) for name in ROWS}
    assert digests["random"] == digests["random_hard"] == digests["full"]
    assert len({digests["condensed"], digests["init"], digests["full"]}) == 3
    assert finished.data.train.content_hash == digests["full"]


@pytest.mark.parametrize("name", ["condensed", "random"])
def test_epochs_of_a_row_in_turn_are_each_of_them_alone(finished: StageContext, name: str) -> None:
    for number, epoch in enumerate(epochs_of(row_of(finished, name, 0), 3)):
        alone = row_of(finished, name, 0).epoch(number)
        assert torch.equal(epoch.logits, alone.logits)
        assert torch.equal(epoch.labels, alone.labels)
        for field in ("image", "partner", "box"):
            np.testing.assert_array_equal(getattr(epoch.views, field), getattr(alone.views, field))
    assert number == 2
