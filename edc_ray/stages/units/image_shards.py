"""Images of a stage: written as shards of class blocks, read as one array."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from edc_ray.artifacts.proof.records import Manifest
from edc_ray.artifacts.storage.layout import stage_folder, table_name
from edc_ray.artifacts.storage.store import Store
from edc_ray.artifacts.tables.codec import table_to_bytes
from edc_ray.artifacts.tables.schema import ImageRows, build_images_table, read_images_table
from edc_ray.config.dataset import DatasetSpec
from edc_ray.config.stages import InitConfig, RecoverConfig
from edc_ray.data.condensed.images import read_condensed_images
from edc_ray.errors import ArtifactError
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.plan import UnitOutput

Slot = tuple[int, int]
"""(class, ipc_id) of one condensed image."""


def images_output(
    dataset: DatasetSpec,
    key: str,
    images: np.ndarray,
    slots: list[Slot],
    meta: dict[str, Any],
    *,
    section: InitConfig | RecoverConfig | None = None,
) -> UnitOutput:
    """Images of some slots as one shard.

    Args:
        dataset: with its class names.
        key: of the unit.
        images: uint8 [N, C, S, S], one for each slot.
        meta: further facts for the record, which also gets the hash of each image as a reader decodes it.
        section: gives the image_format to store; None is without loss.
    """
    format, quality = (section.image_format, section.jpeg_quality) if section else ("png", 0)
    labels, ipc_ids = np.array(slots, dtype=np.int64).T
    names = dataset.class_names or ()
    table = build_images_table(images, labels, ipc_ids, names, format, quality, dataset=dataset.name)
    stored = read_images_table(table).images
    hashes = [[*map(int, slot), pixel_hash(image)] for slot, image in zip(slots, stored, strict=True)]
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
    if wanted is None:
        return read_condensed_images(store, folder, manifest)
    held = [
        record
        for record in manifest.records
        if wanted & {(label, ipc_id) for label, ipc_id, _ in record.meta["image_sha256"]}
    ]
    rows = read_condensed_images(store, folder, replace(manifest, records=tuple(held)))
    kept = [slot in wanted for slot in slots_of(rows)]
    return ImageRows(rows.images[kept], rows.labels[kept], rows.ipc_ids[kept], rows.class_names)


def slots_of(rows: ImageRows) -> list[Slot]:
    """(class, ipc_id) of every row."""
    return list(zip(rows.labels.tolist(), rows.ipc_ids.tolist(), strict=True))


def images_at(rows: ImageRows, slots: Sequence[Slot]) -> np.ndarray:
    row_of = {slot: row for row, slot in enumerate(slots_of(rows))}
    return rows.images[[row_of[slot] for slot in slots]]
