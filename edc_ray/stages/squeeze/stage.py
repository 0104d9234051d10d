"""squeeze: observers, trained on the real images or taken pretrained. One unit is one observer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edc_ray.artifacts.proof.records import Record
from edc_ray.artifacts.storage.layout import network_key, network_name
from edc_ray.config.stages import SqueezeConfig, StatisticsConfig
from edc_ray.core.pixels import normalise
from edc_ray.core.seeding import draws
from edc_ray.core.students.accuracy import bar_above_chance
from edc_ray.core.views.augment import apply_crop_pad, apply_views, sample_crop_pad, sample_views
from edc_ray.core.views.crops import cut_out_of_picture
from edc_ray.errors import DataError
from edc_ray.models.observers import network_to_bytes
from edc_ray.models.pretrained import read_pretrained, start_from
from edc_ray.models.registry import build_network
from edc_ray.stages.squeeze.checks import check
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.numerics import TrainingSteps, placed
from edc_ray.stages.units.plan import Stage, UnitOutput, WorkUnit
from edc_ray.stages.units.training import (
    batches_of,
    check_loss,
    judge,
    make_optimizer,
    mean_and_std,
    mean_over_group,
    pixels_of,
    set_rate,
    wrapped_for_group,
)


def plan(context: StageContext) -> list[WorkUnit]:
    """One unit for each observer."""
    return [
        WorkUnit("squeeze", network_key(name), f"observer {name}", {"observer": name})
        for name in context.config.squeeze.observers
    ]


def inputs(context: StageContext, unit: WorkUnit) -> Any:
    read = {"train": context.data.train.content_hash, "val": context.data.val.content_hash}
    source = context.config.squeeze.weights.get(unit.work["observer"])
    if source is None:
        return read
    # A weight file counts by its content, not by its place.
    return read | {"weights": source if isinstance(source, str) else source.sha256}


def make_observer(context: StageContext, unit: WorkUnit) -> UnitOutput:
    """Starts one observer, trains it where the config says so, and judges it on validation images."""
    name, train = unit.work["observer"], context.data.train
    network, start = starting_network(context, name)
    curves = train_observer(context, network, name) if context.config.squeeze.epochs else {}
    judgement = judge(network, context.data.val, context, 256)
    data = network_to_bytes(
        network,
        name=name,
        image_size=train.image_size,
        channels=train.channels,
        class_names=train.class_names,
    )
    meta = {
        "observer": name, "top1": judgement.top1, "top5": judgement.top5, "ece": judgement.ece,
        "images": judgement.images, "curves": curves, "kernels": context.kernels_name(),
    }  # fmt: skip
    return UnitOutput({network_name(name): (data, 1)}, meta | start)


def starting_network(context: StageContext, name: str) -> tuple[nn.Module, dict[str, Any]]:
    """An observer before training, on the device, and the source of its weights for the record.

    Raises:
        ConfigError: pretrained weights do not fit the network or the dataset's classes.
        ArtifactError: they cannot be read, or are others than those that were asked for.
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
        `squeeze.save=mod10` keeps what the official scripts store: weights only after epochs e with
        e % 10 = 0, so that 50 epochs leave those of the 41st and 5 epochs those of the first. Training ends
        there, and the rate follows all `squeeze.epochs`. The default `last` keeps the last epoch.
    """
    section, seed, train = context.config.squeeze, context.config.seed, context.data.train
    torch.manual_seed(draws(seed, "squeeze", "dropout", name).torch_seed())
    trained = wrapped_for_group(network, context)
    optimizer, steps = (
        make_optimizer(trained, section),
        TrainingSteps(trained, context.numerics(), context.device),
    )
    labels = torch.from_numpy(np.array(train.labels)).to(context.device)
    losses: list[float] = []
    rates: list[float] = []
    for epoch in range(last_epoch(section) + 1):
        trained.train()
        rates.append(set_rate(optimizer, section, epoch, section.epochs, losses))
        order = draws(seed, "squeeze", "order", name, epoch).permutation(len(train))
        total = torch.zeros((), device=context.device)
        num_batches = 0
        for number, batch in enumerate(batches_of(order, section.batch_size, context)):
            images = augmented(context, batch, section, ("squeeze", name, epoch, number, context.group.rank))
            loss = F.cross_entropy(steps.forward(images), labels[torch.from_numpy(batch).to(context.device)])
            optimizer.zero_grad(set_to_none=True)
            steps.backward(loss)
            steps.step(optimizer)
            total += loss.detach()
            num_batches += 1
        mean = mean_over_group(total / num_batches, context)
        losses.append(check_loss(mean, f"squeeze: observer {name}", epoch))
    return {"cross_entropy": losses, "learning_rate": rates}


def last_epoch(section: SqueezeConfig) -> int:
    """Index of the epoch whose weights are kept."""
    return section.epochs - 1 if section.save == "last" else (section.epochs - 1) // 10 * 10


def augmented(
    context: StageContext,
    indices: np.ndarray,
    section: SqueezeConfig | StatisticsConfig,
    key: tuple[str | int, ...],
) -> Tensor:
    """Real training images with the section's augmentation, normalised. The draw is keyed by `key`."""
    train = context.data.train
    if section.augmentation == "resized_crop" and train.whole:
        return normalise(_cut_out_of_pictures(context, indices, section, key), *mean_and_std(context))
    pixels, size = pixels_of(train.fetch(indices), context), train.image_size
    stream, flip = draws(context.config.seed, *key), context.flip_probability
    if section.augmentation == "crop_pad":
        params = sample_crop_pad(stream, len(pixels), size, section.crop_padding, flip)
        pixels = apply_crop_pad(pixels, params)
    elif section.augmentation == "resized_crop":
        params = sample_views(stream, len(pixels), size, section.crop_scale, flip_probability=flip)
        pixels = apply_views(pixels, params)
    return normalise(pixels, *mean_and_std(context))


def _cut_out_of_pictures(
    context: StageContext,
    indices: np.ndarray,
    section: SqueezeConfig | StatisticsConfig,
    key: tuple[str | int, ...],
) -> Tensor:
    """A random crop of each whole picture, keyed by its index too: float32 [B, C, S, S] in [0, 1]."""
    train, flip = context.data.train, context.flip_probability

    def cut(row: int, picture: np.ndarray) -> Tensor:
        stream, size = draws(context.config.seed, *key, int(indices[row])), picture.shape[1:]
        view = sample_views(stream, 1, (size[0], size[1]), section.crop_scale, flip_probability=flip)
        return cut_out_of_picture(torch.from_numpy(picture), view, train.image_size)

    return torch.cat(train.map_pictures(indices, cut)).to(context.device)


def finish(context: StageContext, records: list[Record]) -> tuple[list[Record], dict[str, Any]]:
    """Accuracies of the observers; refuses any that is no better than guessing."""
    accuracies = {record.meta["observer"]: record.meta["top1"] for record in records}
    if not context.config.dataset.allow_weak_observers:
        for record in records:
            refuse_weak_observer(record.meta["observer"], record.meta["top1"], record.meta["images"], context)
    return records, {"observers": accuracies}


def refuse_weak_observer(name: str, top1: float, images: int, context: StageContext) -> None:
    """Refuse an observer at chance level: its classes are probably in another order than the images'.

    Raises:
        DataError: accuracy is not above 1/K by three binomial standard deviations. An observer that is
            always right is never refused, however few the images.
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
    spread="train",
    num_workers=lambda config: config.squeeze.num_workers,
)
