"""init: the images from which recover starts. One unit is a block of classes times a block of ipc ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from edc_ray.artifacts.layout import block_key
from edc_ray.artifacts.records import Record
from edc_ray.config.run import RunConfig
from edc_ray.core.crops import (
    assemble_mosaics,
    best_crop_of_each,
    cross_entropy_of_each,
    cut_crops,
    lowest_losses,
    sample_crops,
)
from edc_ray.core.pixels import denormalise, to_uint8
from edc_ray.core.seeding import draws
from edc_ray.data.sources import OpenedDataset
from edc_ray.errors import DataError
from edc_ray.stages.context import StageContext
from edc_ray.stages.image_shards import Slot, images_output
from edc_ray.stages.plan import Stage, UnitOutput, WorkUnit, blocks, span
from edc_ray.stages.stored_runs import stored_hashes, stored_images
from edc_ray.stages.training import mean_and_std, normalised

_IMAGES_AT_ONCE = 32  # scored in one forward, times crops_per_image


def plan(context: StageContext) -> list[WorkUnit]:
    """Blocks whose sizes do not depend on the number of classes or of images per class."""
    section, num_classes = context.config.init, len(context.data.train.class_names)
    return [
        WorkUnit(
            "init",
            block_key(first, end - 1, first_ipc, end_ipc - 1),
            f"{span('classes', first, end)}, {span('ipc', first_ipc, end_ipc)}",
            {"classes": [first, end], "ipc": [first_ipc, end_ipc]},
        )
        for first, end in blocks(num_classes, section.classes_per_unit)
        for first_ipc, end_ipc in blocks(context.config.ipc, section.ipc_per_unit)
    ]


def inputs(context: StageContext, unit: WorkUnit) -> Any:
    if context.config.init.source is not None:
        return stored_hashes(context.config.init.source, _slots_of(unit))
    if context.config.init.kind != "mosaic":
        return context.data.train.content_hash
    return [context.data.train.content_hash, context.observer_digests(context.config.observers_of("init"))]


def make_images(context: StageContext, unit: WorkUnit) -> UnitOutput:
    """Initial images of one block."""
    slots, source = _slots_of(unit), context.config.init.source
    if source is not None:
        return images_output(context, unit.key, stored_images(source, slots), slots, {})
    images = [_images_of_class(context, label, *unit.work["ipc"]) for label in range(*unit.work["classes"])]
    return images_output(context, unit.key, np.concatenate(images), slots, {})


def _slots_of(unit: WorkUnit) -> list[Slot]:
    return [(label, ipc_id) for label in range(*unit.work["classes"]) for ipc_id in range(*unit.work["ipc"])]


def _images_of_class(context: StageContext, label: int, first_ipc: int, end_ipc: int) -> np.ndarray:
    kind = context.config.init.kind
    if kind == "mosaic":
        return mosaics_of_class(context, label)[first_ipc:end_ipc]
    if kind == "real":
        chosen = real_choice(context, label)[first_ipc:end_ipc]
        return context.data.train.fetch(chosen)
    noise = noise_images(context, [(label, ipc_id) for ipc_id in range(first_ipc, end_ipc)])
    # As a picture: what lies outside black and white is lost here, recover starts from the noise itself.
    return to_uint8(denormalise(noise, *mean_and_std(context)), "round").cpu().numpy()


def mosaics_of_class(context: StageContext, label: int) -> np.ndarray:
    """All mosaics of one class, best first: crops of real images that the observers know best.

    Returns:
        uint8 [ipc, C, S, S].

    Source:
        RDED, Sun et al., CVPR 2024; EDC, arXiv:2404.13733, real image initialisation.
    Deviations:
        crops are scored at the size in which they will stand in the mosaic, padded as RDED does, for both
        orders; where a class has too few images for all cells, further crops of its images fill them.
    """
    section, train, seed = context.config.init, context.data.train, context.config.seed
    members = train.class_indices(label)
    order = draws(seed, "init", "images", label).permutation(len(members))[: section.images_per_class]
    needed = context.config.ipc * section.factor**2
    ranked: list[Tensor] = []
    for turn in range(-(-needed // len(order))):
        crops, losses = _best_crops(context, label, members[order], turn)
        # Ranked turn by turn: a larger ipc then adds crops behind those that are there already.
        ranked.append(crops[lowest_losses(losses, len(losses))])
    mosaics = assemble_mosaics(
        torch.cat(ranked)[:needed],
        context.config.ipc,
        train.image_size,
        factor=section.factor,
        order=section.mosaic_order,
    )
    return to_uint8(denormalise(mosaics, *mean_and_std(context)), "round").cpu().numpy()


def _best_crops(context: StageContext, label: int, indices: np.ndarray, turn: int) -> tuple[Tensor, Tensor]:
    """The best crop of each image and its loss: normalised [M, C, s, s] and [M]."""
    section, train = context.config.init, context.data.train
    observers = [context.observer(name) for name in context.config.observers_of("init")]
    size, best, losses = train.image_size, [], []
    for first in range(0, len(indices), _IMAGES_AT_ONCE):
        chunk = indices[first : first + _IMAGES_AT_ONCE]
        crops = torch.stack(
            [
                cut_crops(
                    image,
                    sample_crops(
                        draws(context.config.seed, "init", "crops", label, int(index), turn),
                        section.crops_per_image,
                        (size, size),
                        section.crop_scale,
                    ),
                    size // section.factor,
                )
                for index, image in zip(chunk, normalised(train.fetch(chunk), context), strict=True)
            ]
        )
        flat = crops.flatten(0, 1)
        labels = torch.full((len(flat),), label, device=flat.device)
        scores = cross_entropy_of_each(flat, labels, observers, input_size=size)
        crop, loss = best_crop_of_each(crops, scores.unflatten(0, crops.shape[:2]))
        best.append(crop)
        losses.append(loss)
    return torch.cat(best), torch.cat(losses)


def real_choice(context: StageContext, label: int) -> np.ndarray:
    """Indices of the real images of one class that start recover, one for each ipc id."""
    members, ipc = context.data.train.class_indices(label), context.config.ipc
    stream = draws(context.config.seed, "init", "real", label)
    if context.config.init.replacement:
        return members[stream.integers(len(members), ipc)]
    return members[stream.permutation(len(members))[:ipc]]


def noise_images(context: StageContext, slots: list[Slot]) -> Tensor:
    """Standard normal noise in normalised pixels, drawn for each slot by itself: float32 [N, C, S, S]."""
    size, channels = context.data.train.image_size, context.data.train.channels
    drawn = [
        draws(context.config.seed, "init", "noise", *slot).normal(channels, size, size) for slot in slots
    ]
    return torch.from_numpy(np.stack(drawn).astype(np.float32)).to(context.device)


def check_class_sizes(config: RunConfig, data: OpenedDataset) -> None:
    """Real initial images without replacement need enough images in each class.

    Raises:
        DataError: a class is smaller than ipc.
    """
    if config.init.source is not None or config.init.kind != "real" or config.init.replacement:
        return
    sizes = np.bincount(data.train.labels, minlength=len(data.train.class_names))
    label = int(sizes.argmin())
    if sizes[label] < config.ipc:
        raise DataError(
            f"init: class '{data.train.class_names[label]}' has fewer images than ipc",
            found=f"{sizes[label]} training images",
            expected=f"at least ipc = {config.ipc}",
            next="lower ipc, raise dataset.max_per_class, or set init.replacement=true or init.kind=mosaic",
        )


def finish(context: StageContext, records: list[Record]) -> tuple[list[Record], dict[str, Any]]:
    return records, {"kind": context.config.init.kind}


STAGE = Stage(name="init", needs=("squeeze",), plan=plan, inputs=inputs, run_unit=make_images, finish=finish)
