"""A condensed set as Hugging Face keeps image datasets, with soft labels as a second configuration.

data/train-00000-of-00003.parquet   image, label, class_id, class_name, ipc_id
labels/epochs-00000-00009.parquet   in the codec of the run, without the epochs that are left out
manifest.json, labels/manifest.json which make the folder one that `edc_ray.data.condensed` opens
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial

from edc_ray.artifacts.proof.manifest import read_shard
from edc_ray.artifacts.proof.records import Manifest, Record, ShardInfo, to_json
from edc_ray.artifacts.storage.layout import MANIFEST_NAME, epochs_key, join_path, stage_folder, table_name
from edc_ray.artifacts.tables.codec import decode_image, table_from_bytes, table_to_bytes
from edc_ray.artifacts.tables.shared_tables import (
    SharedImage,
    build_shared_images_table,
    rows_of_epoch,
    shared_labels_table,
)
from edc_ray.data.condensed.images import open_stage
from edc_ray.digests import digest_of
from edc_ray.sharing.export.images import ImagesToExport, encoded_images, parts_of
from edc_ray.sharing.export.options import ExportOptions
from edc_ray.sharing.export.parts import records_of_epochs
from edc_ray.sharing.export.target import ExportTarget
from edc_ray.sharing.formats.official_images import Slot, image_suffix, official_image_path
from edc_ray.stages.units.image_shards import pixel_hash

_ROWS_PER_GROUP = 100  # what Hugging Face's viewer reads at once


def write_huggingface(
    url: str, source: ImagesToExport, target: ExportTarget, options: ExportOptions, *, epochs: int | None
) -> None:
    """Write the tables and manifests.

    Args:
        url: of the run.
        source: its images.
        target: the folder.
        options: of the export.
        epochs: of labels, from the first; None: no labels.
    """
    if epochs is not None:
        _write_labels(url, target, epochs)
    _write_images(source, target, options)


def _write_images(source: ImagesToExport, target: ExportTarget, options: ExportOptions) -> None:
    ends = parts_of(len(source.hashes), source.stored_bytes, options.shard_bytes)
    records, held, done = list[Record](), dict[Slot, bytes](), 0
    write = partial(_image_record, source, target, len(ends))
    for images in encoded_images(source, options.image_format):
        for slot, data in images.items():
            held[slot] = data
            if done + len(held) == ends[len(records)]:
                done = ends[len(records)]
                records.append(write(len(records), held))
                held = {}
    fingerprint = digest_of([record.fingerprint for record in records])
    meta = {name: source.manifest.meta[name] for name in ("mean", "std") if name in source.manifest.meta}
    meta |= {"matching_loss": source.manifest.meta.get("matching_loss"), "ipc": source.ipc}
    manifest = replace(source.manifest, records=tuple(records), fingerprint=fingerprint, meta=meta)
    target.put(MANIFEST_NAME, to_json(manifest))


def _image_record(
    source: ImagesToExport, target: ExportTarget, files: int, number: int, images: dict[Slot, bytes]
) -> Record:
    rows = [
        SharedImage(data, official_image_path(slot, "rded", image_suffix(data)).partition("/")[2], *slot)
        for slot, data in images.items()
    ]
    table = build_shared_images_table(rows, source.class_names, dataset=source.manifest.dataset["name"])
    key = f"train-{number:05d}-of-{files:05d}"
    path = f"data/{table_name(key)}"
    shard = _put(target, path, path, table_to_bytes(table, rows_per_group=_ROWS_PER_GROUP), len(rows))
    hashes = [[*slot, pixel_hash(decode_image(data))] for slot, data in images.items()]
    return Record("recover", key, digest_of(["exported", shard.sha256]), (shard,), {"image_sha256": hashes})


def _write_labels(url: str, target: ExportTarget, epochs: int) -> None:
    store, folder, manifest = open_stage(url, None, "relabel")
    records = []
    for record in records_of_epochs(store.url, manifest, epochs):
        (shard,) = record.shards
        location = store.join(join_path(folder, shard.path))
        table = shared_labels_table(table_from_bytes(read_shard(store, folder, shard), url=location), epochs)
        first, last = record.meta["epochs"]
        last = min(last, epochs - 1)
        key = epochs_key(first, last)
        # Plain numbers: a tenth larger, and read by all.
        data = table_to_bytes(table, rows_per_group=rows_of_epoch(table), split_floats=False)
        path = join_path(stage_folder("relabel"), table_name(key))
        info = _put(target, path, table_name(key), data, table.num_rows)
        fingerprint = digest_of(["exported", info.sha256])
        records.append(Record("relabel", key, fingerprint, (info,), {"epochs": [first, last]}))
    _put_labels_manifest(target, manifest, records, epochs)


def _put_labels_manifest(
    target: ExportTarget, manifest: Manifest, records: list[Record], epochs: int
) -> None:
    size = sum(shard.bytes for record in records for shard in record.shards)
    # Where a copy was made from is nobody else's business.
    kept = {name: value for name, value in manifest.meta.items() if name != "source"}
    stated = replace(
        manifest,
        records=tuple(records),
        fingerprint=digest_of([record.fingerprint for record in records]),
        meta=kept | {"epochs": epochs, "bytes": size},
    )
    target.put(join_path(stage_folder("relabel"), MANIFEST_NAME), to_json(stated))


def _put(target: ExportTarget, path: str, name: str, data: bytes, rows: int) -> ShardInfo:
    target.put(path, data)
    return ShardInfo(name, len(data), hashlib.sha256(data).hexdigest(), rows)
