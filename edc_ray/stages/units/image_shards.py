"""Images of a stage: written as shards of class blocks, read as one array."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from edc_ray.artifacts.proof.records import Manifest, Record
from edc_ray.artifacts.storage.layout import stage_folder, table_name
from edc_ray.artifacts.storage.store import Store
from edc_ray.artifacts.tables.codec import ImageFormat, table_to_bytes
from edc_ray.artifacts.tables.schema import ImageRows, build_images_table, read_images_table
from edc_ray.config.stages import InitConfig, RecoverConfig
from edc_ray.data.condensed.images import read_condensed_images
from edc_ray.errors import ArtifactError
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.plan import UnitOutput

Slot = tuple[int, int]
"""(class, ipc_id) of one condensed image."""


def images_output(
    context: StageContext,
    key: str,
    images: np.ndarray,
    slots: list[Slot],
    meta: dict[str, Any],
    *,
    section: InitConfig | RecoverConfig | None = None,
) -> UnitOutput:
    """Images of some slots as one shard.

    Args:
        key: of the unit.
        images: uint8 [N, C, S, S].
        slots: of each image.
        meta: further facts for the record, which also gets the hash of each image as a reader decodes it.
        section: whose image_format the images are stored in; None is without loss.
    """
    format, quality = (section.image_format, section.jpeg_quality) if section else ("png", 0)
    return encoded_output(
        key, images, slots, meta, class_names=context.data.train.class_names,
        dataset=context.config.dataset.name, format=format, quality=quality,
    )  # fmt: skip


def encoded_output(
    key: str,
    images: np.ndarray,
    slots: list[Slot],
    meta: dict[str, Any],
    *,
    class_names: Sequence[str],
    dataset: str,
    format: ImageFormat = "png",
    quality: int = 75,
) -> UnitOutput:
    """As `images_output`, for images without a run's config."""
    labels, ipc_ids = (np.array(values, dtype=np.int64) for values in zip(*slots, strict=True))
    table = build_images_table(images, labels, ipc_ids, class_names, format, quality, dataset=dataset)
    stored = read_images_table(table).images
    hashes = [
        [int(label), int(ipc_id), pixel_hash(image)]
        for (label, ipc_id), image in zip(slots, stored, strict=True)
    ]
    return UnitOutput({table_name(key): (table_to_bytes(table), len(slots))}, meta | {"image_sha256": hashes})


def pixel_hash(image: np.ndarray) -> str:
    """16 hexadecimal digits of the SHA-256 of uint8 pixels."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()[:16]


def slot_hashes(context: StageContext, stage: Literal["init", "recover"]) -> dict[Slot, str]:
    """Pixel hash of every slot of a finished stage, read from its manifest."""
    return manifest_hashes(context.manifest(stage))


def manifest_hashes(manifest: Manifest) -> dict[Slot, str]:
    """Pixel hash of every slot in a manifest of images."""
    records = manifest.records
    if not all("image_sha256" in record.meta for record in records):
        raise ArtifactError(f"a manifest of stage {manifest.stage} does not state the hashes of its images")
    return {(label, ipc_id): sha for record in records for label, ipc_id, sha in record.meta["image_sha256"]}


def read_stage_images(
    context: StageContext, stage: Literal["init", "recover"], wanted: set[Slot] | None = None
) -> ImageRows:
    """Images of a finished stage by (class, ipc_id); only shards that hold wanted slots are read."""
    return read_images(context.store, stage_folder(stage), context.manifest(stage), wanted)


def read_images(store: Store, folder: str, manifest: Manifest, wanted: set[Slot] | None) -> ImageRows:
    """Images of a manifest, as `read_stage_images` gives them."""
    if wanted is not None:
        held = [record for record in manifest.records if _slots_of(record) & wanted]
        manifest = replace(manifest, records=tuple(held))
    rows = read_condensed_images(store, folder, manifest)
    if wanted is None:
        return rows
    kept = [slot in wanted for slot in zip(rows.labels.tolist(), rows.ipc_ids.tolist(), strict=True)]
    return ImageRows(rows.images[kept], rows.labels[kept], rows.ipc_ids[kept], rows.class_names)


def _slots_of(record: Record) -> set[Slot]:
    return {(label, ipc_id) for label, ipc_id, _ in record.meta["image_sha256"]}
