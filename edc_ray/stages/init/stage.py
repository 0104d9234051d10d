"""init: the images from which recover starts. One unit is a block of classes times a block of ipc ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from edc_ray.artifacts.proof.records import Record
from edc_ray.artifacts.storage.layout import block_key
from edc_ray.artifacts.storage.store import Store
from edc_ray.config.run import RunConfig
from edc_ray.core.pixels import denormalise, to_uint8
from edc_ray.core.seeding import draws
from edc_ray.core.views.choices import choices_preferring_unused, uniform_choices
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.errors import DataError
from edc_ray.stages.init.mosaics import mosaics_of_class
from edc_ray.stages.squeeze import stage as squeeze
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.image_shards import Slot, images_output
from edc_ray.stages.units.kept_units import own_facts
from edc_ray.stages.units.plan import Stage, UnitOutput, WorkUnit, blocks, span
from edc_ray.stages.units.stored_runs import check_stored_images, stored_hashes, stored_images
from edc_ray.stages.units.training import mean_and_std


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
        return stored_hashes(context.config.init.source, _slots_of(unit), context.data.train.class_names)
    if context.config.init.kind != "mosaic":
        return context.data.train.content_hash
    return [context.data.train.content_hash, context.observer_digests(context.config.observers_of("init"))]


def content(context: StageContext, unit: WorkUnit, inputs: Any) -> Any:
    """What the images of a block depend on; None if observers score them: scores cover all classes."""
    section, dataset = context.config.init, context.config.dataset
    if section.source is not None:
        own = inputs
    elif section.kind == "mosaic":
        return None
    elif section.kind == "real":
        own = [context.data.train.class_hashes[label] for label in range(*unit.work["classes"])]
    else:
        own = [dataset.mean, dataset.std]
    return own_facts(context, _slots_of(unit), STAGE), own


def make_images(context: StageContext, unit: WorkUnit) -> UnitOutput:
    slots, section, dataset = _slots_of(unit), context.config.init, context.config.dataset
    if section.source is not None:
        images = stored_images(section.source, slots, context.data.train.class_names)
        return images_output(dataset, unit.key, images, slots, {})
    ipc_ids, labels = range(*unit.work["ipc"]), range(*unit.work["classes"])
    images = np.concatenate([_images_of_class(context, label, ipc_ids) for label in labels])
    if section.kind != "mosaic":
        return images_output(dataset, unit.key, images, slots, {})
    # Which crops are best may depend on the last bits of their scores.
    facts = {
        "kernels": context.kernels_name(compiled=False),
        **context.at_once.facts("labels and scores"),
    }
    return images_output(dataset, unit.key, images, slots, facts, section=section)


def _slots_of(unit: WorkUnit) -> list[Slot]:
    return [(label, ipc_id) for label in range(*unit.work["classes"]) for ipc_id in range(*unit.work["ipc"])]


def _images_of_class(context: StageContext, label: int, ipc_ids: range) -> np.ndarray:
    wanted = slice(ipc_ids.start, ipc_ids.stop)
    if context.config.init.kind == "mosaic":
        mosaics = mosaics_of_class(context, label)
        if context.config.init.replacement:
            mosaics = mosaics[_with_replacement(context, label, len(mosaics))]
        return _mirrored(context, mosaics[wanted], label, ipc_ids)
    if context.config.init.kind == "real":
        chosen = real_choice(context, label)[wanted]
        images = context.pixels(context.data.train, chosen).cpu().numpy()
        return _mirrored(context, images, label, ipc_ids)
    noise = noise_images(context, [(label, ipc_id) for ipc_id in ipc_ids])
    # Only this picture is clipped to black and white: recover starts from the noise itself.
    return to_uint8(denormalise(noise, *mean_and_std(context)), "round").cpu().numpy()


def _mirrored(context: StageContext, images: np.ndarray, label: int, ipc_ids: range) -> np.ndarray:
    """The images, half of them mirrored if `init.mirror` and `dataset.flip` are set."""
    if not (context.config.init.mirror and context.config.dataset.flip):
        return images
    streams = (draws(context.config.seed, "init", "mirror", label, ipc_id) for ipc_id in ipc_ids)
    turned = np.array([float(stream.uniform()) < 0.5 for stream in streams])
    return np.where(turned[:, None, None, None], images[..., ::-1], images)


def _with_replacement(context: StageContext, label: int, pool_size: int) -> np.ndarray:
    stream = draws(context.config.seed, "init", "real", label)
    choose = choices_preferring_unused if context.config.init.prefer_unused else uniform_choices
    return choose(stream, pool_size, context.config.ipc)


def real_choice(context: StageContext, label: int) -> np.ndarray:
    """Indices of the real images of one class that start recover, one for each ipc id."""
    members, ipc = context.data.train.class_indices(label), context.config.ipc
    if context.config.init.replacement:
        return members[_with_replacement(context, label, len(members))]
    stream = draws(context.config.seed, "init", "real", label)
    return members[stream.permutation(len(members))[:ipc]]


def noise_images(context: StageContext, slots: list[Slot]) -> Tensor:
    """Standard normal noise in normalised pixels, each slot with its own draws: float32 [N, C, S, S]."""
    size, channels = context.data.train.image_size, context.data.train.channels
    streams = (draws(context.config.seed, "init", "noise", *slot) for slot in slots)
    drawn = np.stack([stream.normal(channels, size, size) for stream in streams])
    return torch.from_numpy(drawn.astype(np.float32)).to(context.device)


def check(config: RunConfig, data: OpenedDataset, store: Store) -> None:
    """See `Stage.check`: enough real images in each class, and an `init.source` of images that fit."""
    if config.init.source is not None:
        check_stored_images(config.init.source, config, data)
        return
    if config.init.kind != "real" or config.init.replacement:
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


def passes(config: RunConfig, data: OpenedDataset) -> dict[str, int]:
    section, num_classes = config.init, len(data.train.class_names)
    if section.source is not None or section.kind != "mosaic":
        return {}
    crops = min(section.images_per_class * num_classes, len(data.train)) * section.crops_per_image
    return dict.fromkeys(config.observers_of("init"), crops)


def _mosaics_are_dealt_by_ipc(config: RunConfig) -> bool:
    by_rank = config.init.mosaic_order == "rded" or config.init.replacement
    return config.init.source is None and config.init.kind == "mosaic" and by_rank


STAGE = Stage(
    name="init",
    version=3,
    needs=(squeeze.STAGE,),
    check=check,
    sees_ipc=_mosaics_are_dealt_by_ipc,
    plan=plan,
    inputs=inputs,
    run_unit=make_images,
    finish=finish,
    content=content,
    passes=passes,
    images=lambda context, unit: len(_slots_of(unit)),
)
