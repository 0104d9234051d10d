"""A copy for Hugging Face that `edc-ray export` has written, as a folder of a run again.

Its manifests prove it, so the files are taken over byte by byte: images and labels.
"""

from __future__ import annotations

from typing import Any

from edc_ray.artifacts.proof.manifest import read_manifest, read_shard, write_manifest, write_unit
from edc_ray.artifacts.proof.records import Manifest
from edc_ray.artifacts.storage.layout import stage_folder, table_name
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.artifacts.tables.codec import table_from_bytes
from edc_ray.artifacts.tables.schema import read_images_table
from edc_ray.config.dataset import DatasetSpec
from edc_ray.data.condensed.images import images_digest
from edc_ray.errors import DataError
from edc_ray.sharing.run_facts import facts_beside
from edc_ray.stages.units.stored_runs import check_classes

_LABELS = stage_folder("relabel")


def is_shared_copy(url: str) -> bool:
    """Whether a folder is one that `export --format huggingface` has finished."""
    manifest = read_manifest(open_store(url, writable=False), "")
    return manifest is not None and manifest.stage == "recover"


def import_shared_copy(spec: DatasetSpec, url: str, dest: Store) -> str:
    """Copy images and labels to an empty folder.

    Args:
        spec: what the images must be of, as far as it says.
        url: of the copy for Hugging Face.
        dest: the folder.

    Returns:
        What was imported, as a sentence.

    Raises:
        DataError, ArtifactError: of another dataset or size, a file is damaged, or labels of other images.
    """
    source = open_store(url, writable=False)
    images, labels = read_manifest(source, ""), read_manifest(source, _LABELS)
    assert images is not None
    _check(spec, source, images)
    if labels is not None and labels.meta.get("images") not in (None, images_digest(images)):
        raise DataError(
            f"the labels in {source.url} are those of another image set",
            expected="labels of its images",
            next="fetch the whole copy anew",
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
    if spec.num_classes not in (None, len(stated)):
        raise _other(source, f"{len(stated)} classes", f"{spec.num_classes} classes")
    shard = images.shards[0]
    url = source.join(shard.path)
    first = table_from_bytes(read_shard(source, "", shard), url=url).slice(0, 1)
    _, channels, size, _ = read_images_table(first, url=url).images.shape
    for field, found in (("image_size", size), ("channels", channels)):
        if getattr(spec, field) not in (None, found):
            raise _other(source, f"{field} {found}", f"{field} {getattr(spec, field)}")


def _other(source: Store, found: str, expected: str) -> DataError:
    return DataError(
        f"{source.url} holds images of another dataset or size", found=found, expected=expected,
        next="give the recipe of this dataset",
    )  # fmt: skip


def _copy(
    source: Store, source_folder: str, manifest: Manifest, dest: Store, folder: str, facts: dict[str, Any]
) -> None:
    records = []
    for record in manifest.records:
        (shard,) = record.shards
        data = {table_name(record.unit): (read_shard(source, source_folder, shard), shard.rows)}
        records.append(write_unit(dest, folder, record.unit, record.fingerprint, data, record.meta))
    write_manifest(
        dest, folder, records, fingerprint=manifest.fingerprint, dataset=manifest.dataset,
        meta=manifest.meta | facts, environment=manifest.environment,
    )  # fmt: skip
