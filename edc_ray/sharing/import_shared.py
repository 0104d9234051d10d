"""Importing a copy for Hugging Face that `edc-ray export` wrote, as a folder of a run.

Its manifests prove it, so the files of images and labels are copied byte by byte.
"""

from __future__ import annotations

from typing import Any

from edc_ray.artifacts.proof.manifest import copy_units, read_manifest, read_shard, write_manifest
from edc_ray.artifacts.proof.records import Manifest
from edc_ray.artifacts.storage.layout import stage_folder
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.artifacts.tables.codec import table_from_bytes
from edc_ray.artifacts.tables.schema import read_images_table
from edc_ray.config.dataset import DatasetSpec
from edc_ray.data.condensed.images import images_digest
from edc_ray.errors import DataError
from edc_ray.sharing.facts import facts_beside
from edc_ray.stages.units.stored_runs import check_classes

_LABELS = stage_folder("relabel")


def is_shared_copy(url: str) -> bool:
    """Whether `export --format huggingface` finished this folder."""
    manifest = read_manifest(open_store(url, writable=False), "")
    return manifest is not None and manifest.stage == "recover"


def import_shared_copy(spec: DatasetSpec, url: str, dest: Store) -> str:
    """Copy images and labels of a dataset to an empty folder. Returns a sentence that says so.

    Raises:
        DataError, ArtifactError: another dataset or size, a damaged file, or labels of other images.
    """
    source = open_store(url, writable=False)
    images, labels = read_manifest(source, ""), read_manifest(source, _LABELS)
    assert images is not None
    _check(spec, source, images)
    if labels is not None and labels.meta.get("images") not in (None, images_digest(images)):
        raise DataError(
            f"the labels in {source.url} belong to another image set",
            expected="labels of its images",
            next="fetch the whole copy again",
        )
    number = sum(shard.rows for shard in images.shards)
    told = f"{dest.url}: {number} images of {len(images.dataset['class_names'])} classes"
    _copy(source, "", images, dest, stage_folder("recover"), facts_beside(source))
    if labels is None:
        return told
    _copy(source, _LABELS, labels, dest, _LABELS, {})
    return f"{told}, labels of {labels.meta['epochs']} epochs"


def _check(spec: DatasetSpec, source: Store, images: Manifest) -> None:
    stated = spec.class_names or images.dataset["class_names"]
    check_classes(images, stated, source.url)
    shard = images.shards[0]
    url = source.join(shard.path)
    first = table_from_bytes(read_shard(source, "", shard), url=url).slice(0, 1)
    _, channels, size, _ = read_images_table(first, url=url).images.shape
    refuse_other_images(spec, source.url, num_classes=len(stated), image_size=size, channels=channels)


def refuse_other_images(spec: DatasetSpec, url: str, **found: int) -> None:
    """Refuse images whose num_classes, image_size or channels are not those that a dataset states."""
    for field, value in found.items():
        expected = getattr(spec, field)
        if expected not in (None, value):
            raise DataError(
                f"{url} holds images of another dataset or size",
                found=f"{field} {value}",
                expected=f"{field} {expected}, as dataset {spec.name} has",
                next=f"give the recipe of this dataset, or set dataset.{field}={value}",
            )


def _copy(
    source: Store, source_folder: str, manifest: Manifest, dest: Store, folder: str, facts: dict[str, Any]
) -> None:
    records = copy_units(source, source_folder, manifest.records, dest, folder)
    write_manifest(
        dest, folder, records, fingerprint=manifest.fingerprint, dataset=manifest.dataset,
        meta=manifest.meta | facts, environment=manifest.environment,
    )  # fmt: skip
