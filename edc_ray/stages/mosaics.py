"""Initial images made of crops of real ones, class by class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from edc_ray.artifacts.codec import decode_image, encode_image
from edc_ray.core.augment import AugmentParams
from edc_ray.core.crops import (
    assemble_mosaics,
    best_crop_of_each,
    cross_entropy_of_each,
    cut_crops,
    cut_out_of_picture,
    lowest_losses,
    sample_crops,
    shared_crop_candidates,
)
from edc_ray.core.pixels import denormalise, normalise, to_uint8
from edc_ray.core.seeding import draws
from edc_ray.stages.context import StageContext
from edc_ray.stages.training import mean_and_std, normalised, pixels_of

_IMAGES_AT_ONCE = 32  # scored in one forward, times crops_per_image


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
    ranked: list[Tensor] = []
    for turn in range(-(-needed // len(order))):
        crops, losses = _best_crops(context, label, members[order], turn)
        # Ranked turn by turn: a larger ipc then adds crops behind those that are there already.
        ranked.append(crops[lowest_losses(losses, len(losses))])
    return torch.cat(ranked)[:needed]


def _best_crops(context: StageContext, label: int, indices: np.ndarray, turn: int) -> tuple[Tensor, Tensor]:
    """The best crop of each image and its loss: normalised [M, C, s, s] and [M]."""
    observers = [context.observer(name) for name in context.config.observers_of("init")]
    size, best, losses = context.data.train.image_size, [], []
    for first in range(0, len(indices), _IMAGES_AT_ONCE):
        crops = _random_crops(context, label, indices[first : first + _IMAGES_AT_ONCE], turn)
        flat = crops.flatten(0, 1)
        labels = torch.full((len(flat),), label, device=flat.device)
        scores = cross_entropy_of_each(flat, labels, observers, input_size=size)
        crop, loss = best_crop_of_each(crops, scores.unflatten(0, crops.shape[:2]))
        best.append(crop)
        losses.append(loss)
    return torch.cat(best), torch.cat(losses)


def _random_crops(context: StageContext, label: int, indices: np.ndarray, turn: int) -> Tensor:
    """Crops of each image, cut out of the whole picture where dataset.train_resize says so.

    Returns:
        Normalised [M, N, C, s, s].
    """
    section, train = context.config.init, context.data.train
    side = train.image_size // section.factor

    def drawn(row: int, size: Sequence[int]) -> AugmentParams:
        stream = draws(context.config.seed, "init", "crops", label, int(indices[row]), turn)
        return sample_crops(stream, section.crops_per_image, (size[0], size[1]), section.crop_scale)

    if train.whole:
        cut = train.map_pictures(
            indices,
            lambda row, picture: cut_out_of_picture(
                torch.from_numpy(picture), drawn(row, picture.shape[1:]), side
            ),
        )
        return normalise(torch.stack(cut).to(context.device), *mean_and_std(context))
    images = normalised(train.fetch(indices), context)
    return torch.stack(
        [cut_crops(image, drawn(row, image.shape[1:]), side) for row, image in enumerate(images)]
    )


def _ranked_shared_crops(context: StageContext, label: int, needed: int) -> Tensor:
    """Crops of the images that are known best, best first, as they are stored: uint8 [needed, C, S, S]."""
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
            flip_probability=0.5 if context.config.dataset.flip else 0.0,
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
    """Indices of the images of a class with the least cross entropy, the best known first."""
    train = context.data.train
    members = train.class_indices(label)
    losses = [
        _scores(context, normalised(train.fetch(members[first : first + _IMAGES_AT_ONCE]), context), label)
        for first in range(0, len(members), _IMAGES_AT_ONCE)
    ]
    return members[lowest_losses(torch.cat(losses).cpu(), context.config.init.images_per_class).numpy()]


def _scores(context: StageContext, images: Tensor, label: int) -> Tensor:
    observers = [context.observer(name) for name in context.config.observers_of("init")]
    return cross_entropy_of_each(images, torch.full((len(images),), label, device=images.device), observers)


def _as_stored(crops: Tensor, context: StageContext) -> Tensor:
    """The official program writes its crops to files and reads them again."""
    section = context.config.init
    if section.image_format == "png":
        return crops
    files = [encode_image(crop, section.image_format, section.jpeg_quality) for crop in crops.numpy()]
    return torch.from_numpy(np.stack([decode_image(file, url="a crop") for file in files]))
