"""Initial images made of crops of real ones, class by class."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from edc_ray.artifacts.tables.codec import decode_image, encode_image
from edc_ray.core.pixels import denormalise, normalise, to_uint8
from edc_ray.core.seeding import draws
from edc_ray.core.views.augment import AugmentParams
from edc_ray.core.views.crops import (
    assemble_mosaics,
    best_crop_of_each,
    cross_entropy_of_each,
    cut_crops,
    cut_out_of_picture,
    lowest_losses,
    sample_crops,
    shared_crop_candidates,
)
from edc_ray.data.real.ahead import one_ahead
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.training import mean_and_std, normalised, pixels_of

_IMAGES_AT_ONCE = 32  # decoded together, and scored in one forward on an accelerator, times crops_per_image
_PIXELS_AT_ONCE_ON_A_CPU, _LEAST_AT_ONCE_ON_A_CPU = 1 << 16, 16


def mosaics_of_class(context: StageContext, label: int) -> np.ndarray:
    """All mosaics of one class, best first: crops of real images that the observers know best.

    Returns:
        uint8 [ipc, C, S, S].

    Source:
        RDED, Sun et al., CVPR 2024; EDC, arXiv:2404.13733, real image initialisation.
    Deviations:
        best_crops are scored at the size in which they will stand in the mosaic, padded as RDED does, for
        both orders; where a class has too few images for all cells, further crops of its images fill them.
    """
    section, needed = context.config.init, context.config.ipc * context.config.init.factor**2
    ways = {"best_crops": _ranked_best_crops, "shared_crops": _ranked_shared_crops}
    mosaics = assemble_mosaics(
        ways[section.candidates](context, label, needed),
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
    """The best crop of each of some random images, best first: normalised [needed, C, s, s]."""
    section, members = context.config.init, context.data.train.class_indices(label)
    order = draws(context.config.seed, "init", "images", label).permutation(len(members))
    order = order[: section.images_per_class]
    # Ranked turn by turn: a larger ipc then appends crops to the existing ones.
    turns = _best_crops(context, label, members[order], -(-needed // len(order)))
    return torch.cat([crops[lowest_losses(losses, len(losses))] for crops, losses in turns])[:needed]


def _best_crops(
    context: StageContext, label: int, indices: np.ndarray, num_turns: int
) -> list[tuple[Tensor, Tensor]]:
    """For each turn the best crop of each image and its loss: normalised [M, C, s, s] and [M].

    An image is decoded once for all its crops, in a thread while the observers score those before it.
    """
    size = context.data.train.image_size
    best: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(num_turns)]
    chunks = (indices[first : first + _IMAGES_AT_ONCE] for first in range(0, len(indices), _IMAGES_AT_ONCE))
    for turns in one_ahead(lambda chunk: _random_crops(context, label, chunk, num_turns), chunks):
        for found, crops in zip(best, turns, strict=True):
            scores = _scores(context, crops.flatten(0, 1), label, input_size=size)
            found.append(best_crop_of_each(crops, scores.unflatten(0, crops.shape[:2])))
    return [
        (torch.cat([crops for crops, _ in found]), torch.cat([losses for _, losses in found]))
        for found in best
    ]


def _random_crops(context: StageContext, label: int, indices: np.ndarray, num_turns: int) -> Tensor:
    """Crops of each image, cut out of the whole picture where dataset.train_resize says so.

    Returns:
        Normalised [T, M, N, C, s, s], T turns.
    """
    section, train = context.config.init, context.data.train
    side = train.image_size // section.factor

    def of_each_turn(cut: Callable[[Tensor, AugmentParams, int], Tensor], row: int, image: Tensor) -> Tensor:
        views = []
        for turn in range(num_turns):
            stream = draws(context.config.seed, "init", "crops", label, int(indices[row]), turn)
            size = (image.shape[1], image.shape[2])
            views.append(sample_crops(stream, section.crops_per_image, size, section.crop_scale))
        return torch.stack([cut(image, view, side) for view in views])

    if train.whole:
        crops = train.map_pictures(
            indices, lambda row, picture: of_each_turn(cut_out_of_picture, row, torch.from_numpy(picture))
        )
        return normalise(torch.stack(crops, 1).to(context.device), *mean_and_std(context))
    images = normalised(train.fetch(indices), context)
    return torch.stack([of_each_turn(cut_crops, row, image) for row, image in enumerate(images)], 1)


def _ranked_shared_crops(context: StageContext, label: int, needed: int) -> Tensor:
    """Crops of the images that the observers know best, best first, as stored: uint8 [needed, C, S, S]."""
    section = context.config.init
    images = pixels_of(context.data.train.fetch(_best_known(context, label)), context)
    ranked: list[Tensor] = []
    turn = 0
    while sum(map(len, ranked)) < needed:
        candidates, losses = [], []
        for crops in shared_crop_candidates(
            images,
            draws(context.config.seed, "init", "shared_crops", label, turn),
            group_size=section.crop_group,
            num_crops=section.crops_per_image,
            scale=section.crop_scale,
            flip_probability=context.flip_probability,
            # A class that fills no group has nothing else.
            keep_last=not section.drop_last_group or len(images) < section.crop_group,
        ):
            losses.append(_scores(context, normalise(crops, *mean_and_std(context)), label))
            candidates.append(to_uint8(crops, section.image_rounding).cpu())
        order = lowest_losses(torch.cat(losses).cpu(), needed)
        ranked.append(torch.cat(candidates)[order])
        turn += 1
    return _as_stored(torch.cat(ranked)[:needed], context)


def _best_known(context: StageContext, label: int) -> np.ndarray:
    """Indices of the images of a class with the least cross entropy, lowest first."""
    train = context.data.train
    members = train.class_indices(label)
    chunks = (members[first : first + _IMAGES_AT_ONCE] for first in range(0, len(members), _IMAGES_AT_ONCE))
    images = one_ahead(lambda chunk: normalised(train.fetch(chunk), context), chunks)
    losses = [_scores(context, each, label) for each in images]
    return members[lowest_losses(torch.cat(losses).cpu(), context.config.init.images_per_class).numpy()]


def _scores(context: StageContext, images: Tensor, label: int, *, input_size: int | None = None) -> Tensor:
    observers = [
        context.observer_forward(name, compiled=False) for name in context.config.observers_of("init")
    ]
    part = len(images)
    if images.device.type == "cpu":
        # Channels last is faster for convolutions. Large layers need several images to be efficient, and
        # too many small images would push the activations out of the caches.
        images = images.contiguous(memory_format=torch.channels_last)
        part = max(_LEAST_AT_ONCE_ON_A_CPU, _PIXELS_AT_ONCE_ON_A_CPU // (input_size or images.shape[-1]) ** 2)
    return torch.cat(
        [
            cross_entropy_of_each(
                each, torch.full((len(each),), label, device=each.device), observers, input_size
            )
            for each in images.split(part)
        ]
    )


def _as_stored(crops: Tensor, context: StageContext) -> Tensor:
    """The official program writes its crops to files and reads them again."""
    section = context.config.init
    if section.image_format == "png":
        return crops
    files = [encode_image(crop, section.image_format, section.jpeg_quality) for crop in crops.numpy()]
    return torch.from_numpy(np.stack([decode_image(file, url="a crop") for file in files]))
