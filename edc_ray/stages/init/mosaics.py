"""Initial images made of crops of real ones, class by class."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from edc_ray.artifacts.tables.codec import decode_image, encode_image
from edc_ray.core.pixels import denormalise, from_uint8, normalise, to_uint8
from edc_ray.core.seeding import draws
from edc_ray.core.views.crops import (
    assemble_mosaics,
    best_crop_of_each,
    cross_entropy_of_each,
    cut_crops,
    lowest_losses,
    sample_crops,
    shared_crop_candidates,
)
from edc_ray.data.real.ahead import one_ahead
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.plan import blocks
from edc_ray.stages.units.training import mean_and_std, normalised

_IMAGES_AT_ONCE = 32  # decoded together, and scored in one forward on an accelerator, times crops_per_image
_PIXELS_AT_ONCE_ON_A_CPU, _LEAST_AT_ONCE_ON_A_CPU = 1 << 16, 16


def mosaics_of_class(context: StageContext, label: int) -> np.ndarray:
    """All mosaics of one class, best first: crops of real images that the observers know best.

    Returns:
        uint8 [ipc, C, S, S].

    Source:
        RDED, Sun et al., CVPR 2024; EDC, arXiv:2404.13733, real image initialisation.
    Deviations:
        best_crops are scored at their size in the mosaic, padded as RDED does, for both orders. If a class
        has too few images for all cells, further crops of its images fill them.
    """
    section, needed = context.config.init, context.config.ipc * context.config.init.factor**2
    ranked = _ranked_best_crops if section.candidates == "best_crops" else _ranked_shared_crops
    mosaics = assemble_mosaics(
        ranked(context, label, needed),
        context.config.ipc,
        context.data.train.image_size,
        factor=section.factor,
        order=section.mosaic_order,
        resize=section.crop_resize,
    )
    if mosaics.dtype == torch.uint8:
        return mosaics.numpy()
    return to_uint8(denormalise(mosaics, *mean_and_std(context)), section.image_rounding).cpu().numpy()


def _ranked_best_crops(context: StageContext, label: int, needed: int) -> Tensor:
    """The best crop of each of some random images, best first: normalised [needed, C, s, s].

    An image is decoded once for all its crops, in a thread while the observers score those before it. Crops
    are ranked turn by turn: a larger ipc then appends crops to the existing ones.
    """
    section, members = context.config.init, context.data.train.class_indices(label)
    order = draws(context.config.seed, "init", "images", label).permutation(len(members))
    chosen = members[order[: section.images_per_class]]
    num_turns = -(-needed // len(chosen))
    best: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(num_turns)]

    def crops_of(part: np.ndarray) -> Tensor:
        return _random_crops(context, label, part, num_turns)

    for turns in one_ahead(crops_of, _parts_of(chosen), context.device):
        for found, crops in zip(best, turns, strict=True):
            scores = _scores(context, crops.flatten(0, 1), label, input_size=context.data.train.image_size)
            found.append(best_crop_of_each(crops, scores.unflatten(0, crops.shape[:2])))
    ranked = []
    for found in best:
        crops, losses = (torch.cat(values) for values in zip(*found, strict=True))
        ranked.append(crops[lowest_losses(losses, len(losses))])
    return torch.cat(ranked)[:needed]


def _parts_of(indices: np.ndarray) -> Iterator[np.ndarray]:
    for first, end in blocks(len(indices), _IMAGES_AT_ONCE):
        yield indices[first:end]


def _random_crops(context: StageContext, label: int, indices: np.ndarray, num_turns: int) -> Tensor:
    """Normalised crops of each image, or of the whole picture: [T, M, N, C, s, s], in T turns."""
    section, train = context.config.init, context.data.train
    side = train.image_size // section.factor

    def of_each_turn(row: int, image: Tensor) -> Tensor:
        size, crops = (image.shape[1], image.shape[2]), []
        for turn in range(num_turns):
            stream = draws(context.config.seed, "init", "crops", label, int(indices[row]), turn)
            view = sample_crops(stream, section.crops_per_image, size, section.crop_scale)
            crops.append(cut_crops(image, view, side))
        return torch.stack(crops)

    if train.whole:
        crops = train.map_pictures(context.device, indices, of_each_turn)
        return normalise(torch.stack(crops, 1).to(context.device), *mean_and_std(context))
    images = normalised(context.pixels(train, indices), context)
    return torch.stack([of_each_turn(row, image) for row, image in enumerate(images)], 1)


def _ranked_shared_crops(context: StageContext, label: int, needed: int) -> Tensor:
    """Crops of the images that the observers know best, best first, as stored: uint8 [needed, C, S, S]."""
    section = context.config.init
    images = from_uint8(context.pixels(context.data.train, _best_known(context, label)))
    ranked: list[Tensor] = []
    while sum(map(len, ranked)) < needed:
        candidates, losses = [], []
        for crops in shared_crop_candidates(
            images,
            draws(context.config.seed, "init", "shared_crops", label, len(ranked)),
            group_size=section.crop_group,
            num_crops=section.crops_per_image,
            scale=section.crop_scale,
            flip_probability=context.flip_probability,
            # A class smaller than a group has no other.
            keep_last=not section.drop_last_group or len(images) < section.crop_group,
        ):
            losses.append(_scores(context, normalise(crops, *mean_and_std(context)), label))
            candidates.append(to_uint8(crops, section.image_rounding).cpu())
        order = lowest_losses(torch.cat(losses).cpu(), needed)
        ranked.append(torch.cat(candidates)[order])
    return _as_stored(torch.cat(ranked)[:needed], context)


def _best_known(context: StageContext, label: int) -> np.ndarray:
    """Indices of the images of a class with the least cross entropy, lowest first."""
    train = context.data.train
    members = train.class_indices(label)

    def read(part: np.ndarray) -> Tensor:
        return normalised(context.pixels(train, part), context)

    images = one_ahead(read, _parts_of(members), context.device)
    losses = [_scores(context, each, label) for each in images]
    return members[lowest_losses(torch.cat(losses).cpu(), context.config.init.images_per_class).numpy()]


def _scores(context: StageContext, images: Tensor, label: int, *, input_size: int | None = None) -> Tensor:
    names, part = context.config.observers_of("init"), len(images)
    observers = [context.observer_forward(name, compiled=False) for name in names]
    if images.device.type == "cpu":
        # Channels last is faster for convolutions. Large layers need several images to be efficient; too many
        # small images would push the activations out of the caches.
        images = images.contiguous(memory_format=torch.channels_last)
        part = max(_LEAST_AT_ONCE_ON_A_CPU, _PIXELS_AT_ONCE_ON_A_CPU // (input_size or images.shape[-1]) ** 2)
    losses = []
    for each in images.split(part):
        labels = torch.full((len(each),), label, device=each.device)
        losses.append(cross_entropy_of_each(each, labels, observers, input_size))
    return torch.cat(losses)


def _as_stored(crops: Tensor, context: StageContext) -> Tensor:
    """Crops as the official program has them after it wrote them to files."""
    section = context.config.init
    if section.image_format == "png":
        return crops
    files = [encode_image(crop, section.image_format, section.jpeg_quality) for crop in crops.numpy()]
    return torch.from_numpy(np.stack([decode_image(file, url="a crop") for file in files]))
