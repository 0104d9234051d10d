"""squeeze: training observers and refusing those that are no better than chance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.transforms.v2.functional import resized_crop

from edc_ray.artifacts.storage.layout import manifest_path, stage_folder
from edc_ray.core.pixels import normalise
from edc_ray.core.seeding import draws
from edc_ray.core.views.augment import sample_views
from edc_ray.core.views.eight_bit_resize import resize_8_bit
from edc_ray.data.real.images import DenseImages, EncodedImages
from edc_ray.data.real.undecoded import Decoding, MemoryReader
from edc_ray.errors import ConfigError, DataError, UnitsFailedError
from edc_ray.stages.pipeline import STAGES, run_pipeline
from edc_ray.stages.squeeze.stage import augmented, refuse_weak_observer
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.training import judge, mean_and_std, normalised
from tests.data.made_images import synthetic_images, write_parquet
from tests.stages.tiny_runs import manifest_of, new_root, run_until, tiny_context, units_of

Copied = Callable[..., StageContext]
LEARNS = {"squeeze__observers": ["convnet_d1"], "squeeze__epochs": 6, "dataset__allow_weak_observers": False}


def test_one_unit_is_one_observer(finished: StageContext) -> None:
    assert [unit.key for unit in units_of(finished, "squeeze")] == ["convnet_d1", "wrn_16_2"]
    assert [unit.title for unit in units_of(finished, "squeeze")][1] == "observer wrn_16_2"
    images = [STAGES["squeeze"].images(finished, unit) for unit in units_of(finished, "squeeze")]
    assert images == [finished.config.squeeze.epochs * len(finished.data.train)] * 2


def test_the_recorded_accuracy_is_that_of_the_stored_network(finished: StageContext) -> None:
    for record in manifest_of(finished, "squeeze").records:
        judgement = judge(finished.observer(record.unit), finished.data.val, finished, 256)
        assert record.meta["top1"] == judgement.top1
        assert record.meta["ece"] == judgement.ece
        assert record.meta["images"] == len(finished.data.val)
    accuracies = manifest_of(finished, "squeeze").meta["observers"]
    assert accuracies == {r.unit: r.meta["top1"] for r in manifest_of(finished, "squeeze").records}


def test_an_observer_does_not_depend_on_the_others(copied: Copied, finished: StageContext) -> None:
    alone = tiny_context(squeeze__observers=["wrn_16_2"])
    run_until(alone, "squeeze")
    assert alone.observer_digests(["wrn_16_2"]) == finished.observer_digests(["wrn_16_2"])
    more = copied("statistics", "init", "recover", "relabel", "evaluate",
                  squeeze__observers=["convnet_d2", "wrn_16_2", "convnet_d1"])  # fmt: skip
    (report,) = run_until(more, "squeeze")
    assert (report.units_done, report.units_reused) == (1, 2)


def test_another_seed_trains_another_network(finished: StageContext) -> None:
    other = tiny_context(squeeze__observers=["convnet_d1"], seed=1)
    run_until(other, "squeeze")
    assert other.observer_digests(["convnet_d1"]) != finished.observer_digests(["convnet_d1"])


def test_training_teaches_the_observer_its_classes() -> None:
    context = tiny_context(**LEARNS)
    run_until(context, "squeeze")
    record = manifest_of(context, "squeeze").records[0]
    assert record.meta["top1"] > 70
    losses = record.meta["curves"]["cross_entropy"]
    assert len(losses) == len(record.meta["curves"]["learning_rate"]) == 6
    assert losses[-1] < 0.7 * losses[0]


def _shuffled_val() -> str:
    """Validation images whose classes are in another order than their names say."""
    images = synthetic_images(3, 8, 8, 1, seed=1)
    url = f"{new_root()}/val.parquet"
    write_parquet(DenseImages(images.images, (images.labels + 1) % 3, images.class_names), url)
    return url


def test_an_observer_at_chance_level_on_shuffled_labels_stops_the_run() -> None:
    context = tiny_context(**LEARNS, dataset__val=_shuffled_val())
    with pytest.raises(DataError, match="observer 'convnet_d1' does not know the classes") as caught:
        run_pipeline(context)
    assert caught.value.exit_status == 2
    assert "on 24 validation images" in str(caught.value.found)
    assert "chance 33.33%" in str(caught.value.expected)
    assert "dataset.allow_weak_observers=true" in str(caught.value.next)
    assert not context.store.exists(manifest_path(stage_folder("squeeze")))
    assert not context.store.list(stage_folder("statistics"))


def test_a_weak_observer_goes_on_when_it_is_allowed_and_trains_nothing_again() -> None:
    val, root = _shuffled_val(), new_root()
    with pytest.raises(DataError):
        run_until(tiny_context(root, **LEARNS, dataset__val=val), "squeeze")
    allowed = LEARNS | {"dataset__allow_weak_observers": True}
    reports = run_until(tiny_context(root, **allowed, dataset__val=val), "statistics")
    assert (reports[0].units_done, reports[0].units_reused) == (0, 1)


@pytest.mark.parametrize("images", [24, 1000])
def test_the_bar_is_three_binomial_deviations_above_chance(finished: StageContext, images: int) -> None:
    bar = 100 * (1 / 3 + 3 * (2 / 9 / images) ** 0.5)
    refuse_weak_observer("x", bar + 0.01, images, finished)
    with pytest.raises(DataError, match="observer 'x'"):
        refuse_weak_observer("x", bar - 0.01, images, finished)


def test_an_observer_that_is_always_right_is_not_refused_for_want_of_images(finished: StageContext) -> None:
    refuse_weak_observer("x", 100.0, 2, finished)
    with pytest.raises(DataError, match="observer 'x'"):
        refuse_weak_observer("x", 50.0, 2, finished)


def _with_whole_pictures(context: StageContext) -> tuple[StageContext, np.ndarray]:
    """The context over pictures of 8 x 16 pixels whose outer quarters are white; and the pictures."""
    squares = context.data.train.fetch(np.arange(len(context.data.train)))
    pictures = np.pad(squares // 2, ((0, 0), (0, 0), (0, 0), (4, 4)), constant_values=255)
    train = EncodedImages(
        MemoryReader(pictures[:, 0], "wide"), np.arange(len(pictures)), context.data.train.labels,
        context.data.train.class_names, Decoding(1, 8, "square"), whole=True,
    )  # fmt: skip
    return replace(context, data=replace(context.data, train=train)), pictures


def test_whole_pictures_are_cropped_as_torchvision_crops_them(finished: StageContext) -> None:
    context, pictures = _with_whole_pictures(finished)
    section = finished.config.squeeze.model_copy(
        update={"augmentation": "resized_crop", "crop_scale": (0.2, 0.8)}
    )
    indices = np.array([7, 0, 30])
    found = augmented(context, {("a",): indices}, section)
    for row, index in enumerate(indices):
        view = sample_views(draws(0, "a", int(index)), 1, (8, 16), (0.2, 0.8), flip_probability=0.0)
        top, left, height, width = (int(getattr(view, name)) for name in ("top", "left", "height", "width"))
        picture = torch.from_numpy(pictures[index]) / 255
        crop = resized_crop(picture, top, left, height, width, [8, 8], antialias=True)
        torch.testing.assert_close(found[row], normalise(crop, *mean_and_std(context)))
    other = augmented(context, {("b",): indices}, section)
    assert not torch.equal(found, other)
    torch.testing.assert_close(augmented(context, {("a",): indices[::-1].copy()}, section).flip(0), found)


def test_whole_pictures_are_squashed_where_nothing_crops(finished: StageContext) -> None:
    context, pictures = _with_whole_pictures(finished)
    section = finished.config.squeeze.model_copy(update={"augmentation": "none"})
    found = augmented(context, {("a",): np.arange(2)}, section)
    squashed = resize_8_bit(torch.from_numpy(pictures[:2]), (8, 8))
    torch.testing.assert_close(found, normalised(squashed.numpy(), context))


def test_a_training_that_diverges_names_the_observer_and_the_epoch() -> None:
    context = tiny_context(squeeze__observers=["convnet_d1"], squeeze__learning_rate=1e30)
    with pytest.raises(UnitsFailedError, match="observer convnet_d1: the training loss is nan in epoch 0"):
        run_until(context, "squeeze")


@pytest.mark.parametrize("kind", ["none", "crop_pad", "resized_crop", "whole"])
def test_batches_are_augmented_together_as_each_by_itself(finished: StageContext, kind: str) -> None:
    context = _with_whole_pictures(finished)[0] if kind == "whole" else finished
    section = finished.config.squeeze.model_copy(
        update={"augmentation": "resized_crop" if kind == "whole" else kind}
    )
    batches: dict[tuple[str | int, ...], np.ndarray] = {
        ("a", 0): np.array([7, 0, 30]), ("a", 1): np.array([0]), ("b",): np.arange(5),
    }  # fmt: skip
    alone = [augmented(context, {key: indices}, section) for key, indices in batches.items()]
    assert torch.equal(augmented(context, batches, section), torch.cat(alone))


@pytest.mark.parametrize("kind", ["none", "crop_pad", "resized_crop"])
def test_augmentation_is_a_function_of_its_key(finished: StageContext, kind: str) -> None:
    images = np.arange(6)
    section = finished.config.squeeze.model_copy(update={"augmentation": kind})
    first, again, other = (augmented(finished, {("a", key): images}, section) for key in (0, 0, 1))
    assert torch.equal(first, again)
    assert first.shape == (6, 1, 8, 8)
    plain = normalised(finished.data.train.fetch(images), finished)
    assert torch.equal(first, plain) == (kind == "none")
    assert torch.equal(first, other) == (kind == "none")


def test_a_validation_set_without_a_class_does_not_stop_the_run() -> None:
    images = synthetic_images(3, 8, 8, 1, seed=1)
    url = f"{new_root()}/val.parquet"
    write_parquet(images.subset(np.flatnonzero(images.labels != 1)), url)
    context = tiny_context(
        dataset__val=url, squeeze__observers=["convnet_d1"], evaluate__seeds=1, evaluate__rows=["condensed"]
    )
    run_pipeline(context)
    assert len(manifest_of(context, "evaluate").meta["results"]) == 1


def test_other_pixels_under_the_same_config_are_refused_in_the_same_run_folder() -> None:
    root, train = new_root(), f"{new_root()}/train.parquet"
    write_parquet(synthetic_images(3, 12, 8, 1, seed=0), train)
    fields = {
        "dataset__train": train, "squeeze__observers": ["convnet_d1"],
        "dataset__mean": [0.4], "dataset__std": [0.3],
    }  # fmt: skip
    (report,) = run_until(tiny_context(root, **fields), "squeeze")
    assert report.units_done == 1
    write_parquet(synthetic_images(3, 12, 8, 1, seed=7), train)
    with pytest.raises(ConfigError, match="made from other images"):
        tiny_context(root, **fields)


@pytest.mark.parametrize(("save", "epochs", "trained"), [("last", 3, 3), ("mod10", 3, 1), ("mod10", 12, 11)])
def test_the_epoch_whose_weights_are_kept_ends_the_training(save: str, epochs: int, trained: int) -> None:
    context = tiny_context(
        squeeze__observers=["convnet_d1"],
        squeeze__epochs=epochs,
        squeeze__save=save,
        squeeze__schedule="constant",
    )
    run_until(context, "squeeze")
    curves = manifest_of(context, "squeeze").records[0].meta["curves"]
    assert len(curves["cross_entropy"]) == len(curves["learning_rate"]) == trained


def test_mod10_keeps_the_weights_of_the_middle_of_the_same_training() -> None:
    """With a constant rate three epochs saved after the first are one epoch."""
    fields = {"squeeze__observers": ["convnet_d1"], "squeeze__schedule": "constant"}
    one, three = tiny_context(**fields, squeeze__epochs=1), tiny_context(
        **fields, squeeze__epochs=3, squeeze__save="mod10"
    )  # fmt: skip
    for context in (one, three):
        run_until(context, "squeeze")
    assert one.observer_digests(["convnet_d1"]) == three.observer_digests(["convnet_d1"])
