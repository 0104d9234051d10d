"""squeeze: observers, trained on the real images or taken pretrained. One unit is one observer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice, tee
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edc_ray.artifacts.proof.records import Record
from edc_ray.artifacts.storage.layout import manifest_path, network_key, network_name, stage_folder
from edc_ray.artifacts.storage.store import Store
from edc_ray.config.run import RunConfig
from edc_ray.config.stages import SqueezeConfig, StatisticsConfig, WeightsFile
from edc_ray.core.pixels import from_uint8, normalise
from edc_ray.core.seeding import Draws, draws, draws_of_each, prefetch
from edc_ray.core.students.accuracy import bar_above_chance, fewest_images_above_chance
from edc_ray.core.views.augment import (
    WORDS_PER_VIEW,
    apply_crop_pad,
    apply_views,
    sample_crop_pad,
    sample_views,
)
from edc_ray.core.views.crops import cut_crops
from edc_ray.data.real.images import DenseImages, sent_to
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.errors import ConfigError, DataError
from edc_ray.models.pretrained import check_source, read_pretrained, start_from
from edc_ray.models.registry import build_network, check_network
from edc_ray.models.weight_files import check_local_weights
from edc_ray.stages.units import training
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.numerics import placed
from edc_ray.stages.units.plan import Stage, UnitOutput, WorkUnit
from edc_ray.stages.units.rendering import Batches, rendered_batches
from edc_ray.stages.units.training_step import TrainingStep, begin_training, captures_of

Key = tuple[str | int, ...]
"""Names the draws of a batch."""


def plan(context: StageContext) -> list[WorkUnit]:
    return [
        WorkUnit("squeeze", network_key(name), f"observer {name}", {"observer": name})
        for name in context.config.squeeze.observers
    ]


def check(config: RunConfig, data: OpenedDataset, store: Store) -> None:
    """See `Stage.check`: refuses unfit networks, weights and validation images."""
    for name in config.squeeze.observers:
        check_network(name, **data.train.network_shape)
    _check_weights(config.squeeze, len(data.train.class_names))
    # Finished observers do not need the files any more.
    if not store.exists(manifest_path(stage_folder("squeeze"))):
        for source in config.squeeze.weights.values():
            if isinstance(source, WeightsFile):
                check_local_weights(source.url, source.sha256)
    _check_validation(config, data)


def _check_weights(squeeze: SqueezeConfig, num_classes: int) -> None:
    """Refuse pretrained weights that do not exist, or that know other classes by their names."""
    if squeeze.head_classes is not None and not squeeze.weights:
        raise ConfigError(
            "squeeze.head_classes is about pretrained heads", found="no pretrained observer",
            next="set squeeze.weights, or leave squeeze.head_classes unset",
        )  # fmt: skip
    if squeeze.head_classes is not None and len(squeeze.head_classes) != num_classes:
        raise ConfigError(
            "squeeze.head_classes does not fit the dataset",
            found=f"{len(squeeze.head_classes)} indices",
            expected=f"{num_classes}, one for each class in label order",
        )
    for name, source in squeeze.weights.items():
        known = check_source(name, str(source))
        if known in (None, num_classes) or squeeze.head_classes is not None or squeeze.epochs:
            continue
        raise ConfigError(
            f"the weights of observer '{name}' know other classes than the dataset",
            found=f"{known} classes",
            expected=f"{num_classes} classes",
            next="say which of them the dataset's are with squeeze.head_classes=[...], or let a fresh head "
            "be trained with squeeze.epochs above 0",
        )


def _check_validation(config: RunConfig, data: OpenedDataset) -> None:
    if data.train.content_hash == data.val.content_hash:
        raise DataError(
            "the validation images are the training images",
            expected="images that no network was trained on",
            next="give other images, or leave dataset.val unset to hold out a part of the training images",
        )
    num_classes = len(data.train.class_names)
    fewest = fewest_images_above_chance(num_classes)
    if len(data.val) < fewest and not config.dataset.allow_weak_observers:
        raise DataError(
            "too few validation images to tell any observer from one that guesses",
            found=f"{len(data.val)} validation image{'s' if len(data.val) != 1 else ''}",
            expected=f"at least {fewest} for {num_classes} classes",
            next="give more (dataset.val, dataset.val_fraction or dataset.max_val_per_class), "
            "or set dataset.allow_weak_observers=true",
        )


def inputs(context: StageContext, unit: WorkUnit) -> Any:
    read = {"train": context.data.train.content_hash, "val": context.data.val.content_hash}
    source = context.config.squeeze.weights.get(unit.work["observer"])
    if source is None:
        return read
    # A weight file counts by its content, not by its place.
    return read | {"weights": source if isinstance(source, str) else source.sha256}


def make_observer(context: StageContext, unit: WorkUnit) -> UnitOutput:
    """Starts one observer, trains it if the config says so, and judges it on validation images."""
    name = unit.work["observer"]
    network, start = starting_network(context, name)
    curves = train_observer(context, network, name) if context.config.squeeze.epochs else {}
    judgement = training.judge(network, context.data.val, context, 256)
    meta = {
        "observer": name, "top1": judgement.top1, "top5": judgement.top5, "ece": judgement.ece,
        "images": judgement.images, "curves": curves, "kernels": context.kernels_name(),
        **context.at_once.facts("accuracy"),
    }  # fmt: skip
    return UnitOutput({network_name(name): training.network_shard(network, name, context)}, meta | start)


def starting_network(context: StageContext, name: str) -> tuple[nn.Module, dict[str, Any]]:
    """An observer before training, on the device, and the source of its weights for the record.

    Raises a ConfigError if weights do not fit network or classes; an ArtifactError if they cannot be read.
    """
    section, train = context.config.squeeze, context.data.train
    seed = draws(context.config.seed, "squeeze", "weights", name).torch_seed()
    network = build_network(name, **train.network_shape, seed=seed)
    source = section.weights.get(name)
    if source is None:
        return placed(network, context.config, context.device), {}
    sha256 = None if isinstance(source, str) else source.sha256
    weights = read_pretrained(name, str(source), sha256, context.config.dataset.cache)
    head = start_from(
        network,
        weights,
        name=name,
        class_names=train.class_names,
        head_classes=section.head_classes,
        may_train_head=section.epochs > 0,
        image_size=train.image_size,
        channels=train.channels,
    )
    facts = {"source": weights.source, "sha256": weights.sha256, "head": head}
    return placed(network, context.config, context.device), {"pretrained": facts}


def train_observer(context: StageContext, network: nn.Module, name: str) -> dict[str, list[float]]:
    """Trains an observer with cross entropy on augmented real images; returns the curves.

    Deviations:
        `squeeze.save=mod10` keeps what the official scripts store: the weights after the last epoch e with
        e % 10 = 0, from e = 0 (the 41st of 50 epochs). Training ends there, but the rate follows all
        `squeeze.epochs`. The default `last` keeps the last epoch.
    """
    section, seed = context.config.squeeze, context.config.seed
    begin_training(context, network, draws(seed, "squeeze", "dropout", name).torch_seed())
    trained = training.wrapped_for_group(network, context)
    captures = captures_of(context, f"squeeze: observer {name}")
    optimizer = training.make_optimizer(trained, section, captured=captures is not None)
    numerics = context.numerics()
    forward = numerics.forward(trained)

    def loss_of(images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(forward(images), labels)

    step = TrainingStep(
        optimizer, loss_of, context.device, numerics.dtype, captures=captures, seat=context.seat
    )
    losses: list[float] = []
    rates: list[float] = []
    epochs, ahead = tee(_epochs(context, name))
    in_a_thread = not isinstance(context.data.train, DenseImages)
    batches = rendered_batches(ahead, context, in_a_thread=in_a_thread)
    for epoch, (sizes, _) in enumerate(epochs):
        trained.train()
        rates.append(training.set_rate(optimizer, section, epoch, section.epochs, losses))
        total = torch.zeros((), device=context.device)
        for inputs in islice(batches, len(sizes)):
            step([(inputs, 1.0)], total)
        mean = training.mean_over_group(total / len(sizes), context)
        losses.append(training.check_loss(mean, f"squeeze: observer {name}", epoch))
    return {"cross_entropy": losses, "learning_rate": rates}


def _epochs(context: StageContext, name: str) -> Iterator[Batches]:
    """Images and labels of each epoch's batches."""
    section, seed, train = context.config.squeeze, context.config.seed, context.data.train
    labels = torch.from_numpy(np.array(train.labels)).to(context.device)
    for epoch in range(last_epoch(section) + 1):
        order = draws(seed, "squeeze", "order", name, epoch).permutation(len(train))
        batches = list(training.batches_of(order, section.batch_size, context))
        yield list(map(len, batches)), partial(_shown, context, labels, ("squeeze", name, epoch), batches)


def _shown(
    context: StageContext, labels: Tensor, key: Key, batches: list[np.ndarray], numbers: range
) -> tuple[Tensor, Tensor]:
    """Images and labels of some consecutive batches of an epoch."""
    keyed = {(*key, number, context.group.rank): batches[number] for number in numbers}
    chosen = torch.from_numpy(np.concatenate(list(keyed.values()))).to(context.device)
    return augmented(context, keyed, context.config.squeeze), labels[chosen]


def last_epoch(section: SqueezeConfig) -> int:
    return section.epochs - 1 if section.save == "last" else (section.epochs - 1) // 10 * 10


def augmented(
    context: StageContext, batches: Mapping[Key, np.ndarray], section: SqueezeConfig | StatisticsConfig
) -> Tensor:
    """Real training images with the section's augmentation, normalised, of batches one after the other.

    Each batch has indices of images, and the key of its draws: it is as by itself, whatever stands beside it.
    """
    train, mean_and_std, flip = context.data.train, training.mean_and_std(context), context.flip_probability
    if section.augmentation == "resized_crop" and train.whole:
        crops = _crops_of_whole_pictures(context, batches, section.crop_scale)
        return normalise(sent_to(context.device, crops), *mean_and_std)
    pixels = from_uint8(context.pixels(train, np.concatenate(list(batches.values()))))
    streams, counts = [draws(context.config.seed, *key) for key in batches], list(map(len, batches.values()))
    if section.augmentation == "crop_pad":
        params = sample_crop_pad(streams, counts, train.image_size, section.crop_padding, flip)
        pixels = apply_crop_pad(pixels, params)
    elif section.augmentation == "resized_crop":
        params = sample_views(streams, counts, train.image_size, section.crop_scale, flip_probability=flip)
        pixels = apply_views(pixels, params)
    return normalise(pixels, *mean_and_std)


def _crops_of_whole_pictures(
    context: StageContext, batches: Mapping[Key, np.ndarray], scale: tuple[float, float]
) -> Tensor:
    train, flip, streams = context.data.train, context.flip_probability, list[Draws]()
    for key, indices in batches.items():
        streams += draws_of_each(context.config.seed, *key, keys=[(int(index),) for index in indices])
    prefetch(streams, WORDS_PER_VIEW)

    def crop_of(row: int, picture: Tensor) -> Tensor:
        size = picture.shape[1], picture.shape[2]
        view = sample_views(streams[row], 1, size, scale, flip_probability=flip)
        return cut_crops(picture, view, train.image_size)

    everything = np.concatenate(list(batches.values()))
    return torch.cat(train.map_pictures(context.device, everything, crop_of))


def passes(config: RunConfig, data: OpenedDataset) -> dict[str, int]:
    epochs = last_epoch(config.squeeze) + 1 if config.squeeze.epochs else 0
    return dict.fromkeys(config.squeeze.observers, 3 * epochs * len(data.train) + len(data.val))


def images_of(context: StageContext, unit: WorkUnit) -> int:
    """Training images over all epochs."""
    section = context.config.squeeze
    return (last_epoch(section) + 1) * len(context.data.train) if section.epochs else 0


def finish(context: StageContext, records: list[Record]) -> tuple[list[Record], dict[str, Any]]:
    """Accuracies of the observers; refuses any that is no better than guessing."""
    accuracies = {}
    for meta in (record.meta for record in records):
        accuracies[meta["observer"]] = meta["top1"]
        if not context.config.dataset.allow_weak_observers:
            refuse_weak_observer(meta["observer"], meta["top1"], meta["images"], context)
    return records, {"observers": accuracies}


def refuse_weak_observer(name: str, top1: float, images: int, context: StageContext) -> None:
    """Refuse an observer within three standard deviations of chance: its classes may be in another order.

    One that is always right passes, however few the images.
    """
    num_classes = len(context.data.train.class_names)
    bar = 100 * bar_above_chance(num_classes, images)
    if top1 <= bar and top1 < 100:
        raise DataError(
            f"squeeze: observer '{name}' does not know the classes of the validation images",
            found=f"top-1 {top1:.2f}% on {images} validation images",
            expected=f"more than {bar:.2f}% (chance {100 / num_classes:.2f}% and three standard deviations)",
            next="compare the order of the classes in dataset.train and dataset.val, train longer "
            "(squeeze.epochs), or set dataset.allow_weak_observers=true",
        )


STAGE = Stage(
    name="squeeze",
    version=5,
    needs=(),
    check=check,
    choices_of_units=frozenset({"squeeze.observers", "squeeze.weights"}),
    plan=plan,
    inputs=inputs,
    run_unit=make_observer,
    finish=finish,
    finish_inputs=lambda context: context.config.dataset.allow_weak_observers,
    num_workers=lambda config: config.squeeze.num_workers,
    trains=True,
    passes=passes,
    images=images_of,
)
