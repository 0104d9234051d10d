"""squeeze: train the observers on the real images. One unit is one observer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edc_ray.artifacts.layout import network_name
from edc_ray.artifacts.records import Record
from edc_ray.config.stages import SqueezeConfig, StatisticsConfig
from edc_ray.core.accuracy import bar_above_chance
from edc_ray.core.augment import apply_crop_pad, apply_views, sample_crop_pad, sample_views
from edc_ray.core.pixels import normalise
from edc_ray.core.seeding import draws
from edc_ray.errors import DataError
from edc_ray.models.observers import network_to_bytes
from edc_ray.models.registry import build_network
from edc_ray.stages.context import StageContext
from edc_ray.stages.plan import Stage, UnitOutput, WorkUnit
from edc_ray.stages.training import (
    batches_of,
    check_loss,
    judge,
    make_optimizer,
    mean_and_std,
    pixels_of,
    set_rate,
    wrapped_for_group,
)


def plan(context: StageContext) -> list[WorkUnit]:
    """One unit for each observer."""
    return [
        WorkUnit("squeeze", name, f"observer {name}", {"observer": name})
        for name in context.config.squeeze.observers
    ]


def inputs(context: StageContext, unit: WorkUnit) -> Any:
    return {"train": context.data.train.content_hash, "val": context.data.val.content_hash}


def train_observer(context: StageContext, unit: WorkUnit) -> UnitOutput:
    """Trains one observer with cross entropy on augmented real images and judges it on validation images."""
    name, section = unit.work["observer"], context.config.squeeze
    seed, train = context.config.seed, context.data.train
    network = build_network(
        name,
        num_classes=len(train.class_names),
        image_size=train.image_size,
        channels=train.channels,
        seed=draws(seed, "squeeze", "weights", name).torch_seed(),
    ).to(context.device)
    torch.manual_seed(draws(seed, "squeeze", "dropout", name).torch_seed())
    trained = wrapped_for_group(network, context)
    optimizer = make_optimizer(trained, section)
    labels = torch.from_numpy(np.array(train.labels)).to(context.device)
    losses, rates = [], []
    for epoch in range(section.epochs):
        trained.train()
        rates.append(set_rate(optimizer, section, epoch, section.epochs))
        order = draws(seed, "squeeze", "order", name, epoch).permutation(len(train))
        total = torch.zeros((), device=context.device)
        num_batches = 0
        for number, batch in enumerate(batches_of(order, section.batch_size, context)):
            images = augmented(
                context, train.fetch(batch), section, ("squeeze", name, epoch, number, context.group.rank)
            )
            loss = F.cross_entropy(trained(images), labels[torch.from_numpy(batch).to(context.device)])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
            num_batches += 1
        losses.append(check_loss(total / num_batches, f"squeeze: observer {name}", epoch))
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
        "images": judgement.images, "curves": {"cross_entropy": losses, "learning_rate": rates},
    }  # fmt: skip
    return UnitOutput({network_name(name): (data, 1)}, meta)


def augmented(
    context: StageContext,
    images: np.ndarray,
    section: SqueezeConfig | StatisticsConfig,
    key: tuple[str | int, ...],
) -> Tensor:
    """Real images with the section's augmentation, normalised. The draw is keyed by `key`."""
    pixels, size = pixels_of(images, context), context.data.train.image_size
    stream, flip = draws(context.config.seed, *key), 0.5 if context.config.dataset.flip else 0.0
    if section.augmentation == "crop_pad":
        params = sample_crop_pad(stream, len(pixels), size, section.crop_padding, flip)
        pixels = apply_crop_pad(pixels, params)
    elif section.augmentation == "resized_crop":
        params = sample_views(stream, len(pixels), size, section.crop_scale, flip_probability=flip)
        pixels = apply_views(pixels, params)
    return normalise(pixels, *mean_and_std(context))


def finish(context: StageContext, records: list[Record]) -> tuple[list[Record], dict[str, Any]]:
    """Accuracies of the observers; refuses those that are no better than guessing."""
    accuracies = {record.meta["observer"]: record.meta["top1"] for record in records}
    if not context.config.dataset.allow_weak_observers:
        for record in records:
            refuse_weak_observer(record.meta["observer"], record.meta["top1"], record.meta["images"], context)
    return records, {"observers": accuracies}


def refuse_weak_observer(name: str, top1: float, images: int, context: StageContext) -> None:
    """Mismatched class orders show as an observer at chance level; all that follows would be worthless.

    Raises:
        DataError: accuracy is not above 1/K by three binomial standard deviations.
    """
    num_classes = len(context.data.train.class_names)
    bar = 100 * bar_above_chance(num_classes, images)
    if top1 <= bar:
        raise DataError(
            f"squeeze: observer '{name}' does not know the classes of the validation images",
            found=f"top-1 {top1:.2f}% on {images} validation images",
            expected=f"more than {bar:.2f}% (chance {100 / num_classes:.2f}% and three standard deviations)",
            next="compare the order of the classes in dataset.train and dataset.val, train longer "
            "(squeeze.epochs), or set dataset.allow_weak_observers=true",
        )


STAGE = Stage(
    name="squeeze",
    needs=(),
    plan=plan,
    inputs=inputs,
    run_unit=train_observer,
    finish=finish,
    finish_inputs=lambda context: context.config.dataset.allow_weak_observers,
    spread="train",
    num_workers=lambda context: context.config.squeeze.num_workers,
)
