"""A condensed set in Hugging Face's layout of image datasets, with soft labels as a second configuration.

data/train-00000-of-00003.parquet   image, label, class_id, class_name, ipc_id
labels/epochs-00000-00009.parquet   in the codec of the run, without the epochs that are left out
manifest.json, labels/manifest.json with which `edc_ray.data.condensed` opens the folder
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from edc_ray.artifacts.proof.manifest import read_shard
from edc_ray.artifacts.proof.records import Record, ShardInfo, to_json
from edc_ray.artifacts.storage.layout import MANIFEST_NAME, epochs_key, join_path, stage_folder, table_name
from edc_ray.artifacts.storage.store import Store
from edc_ray.artifacts.tables.codec import decode_image, table_from_bytes, table_to_bytes
from edc_ray.artifacts.tables.columns import integers
from edc_ray.artifacts.tables.schema import IMAGE_TYPE, image_metadata
from edc_ray.data.condensed.images import open_stage
from edc_ray.digests import digest_of
from edc_ray.sharing.export.images import ImagesToExport, images_of_files
from edc_ray.sharing.export.options import ExportOptions
from edc_ray.sharing.export.parts import records_of_epochs
from edc_ray.sharing.export.target import ExportTarget
from edc_ray.sharing.formats.official_images import Slot, image_suffix, official_image_path
from edc_ray.stages.units.image_shards import pixel_hash

_ROWS_PER_GROUP = 100  # Hugging Face's viewer reads so many at once


def write_image_tables(source: ImagesToExport, target: ExportTarget, options: ExportOptions) -> None:
    """Write the images and their manifest."""
    records = [
        _image_record(source, target, f"train-{number:05d}-of-{files:05d}", images)
        for number, files, images in images_of_files(source, options)
    ]
    fingerprint = digest_of([record.fingerprint for record in records])
    meta = {name: source.manifest.meta[name] for name in ("mean", "std") if name in source.manifest.meta}
    meta |= {"matching_loss": source.manifest.meta.get("matching_loss"), "ipc": source.ipc}
    manifest = replace(source.manifest, records=tuple(records), fingerprint=fingerprint, meta=meta)
    target.put(MANIFEST_NAME, to_json(manifest))


def _image_record(
    source: ImagesToExport, target: ExportTarget, key: str, images: dict[Slot, bytes]
) -> Record:
    table = shared_images_table(images, source.class_names, dataset=source.manifest.dataset["name"])
    path = f"data/{table_name(key)}"
    shard = _put(target, path, path, table_to_bytes(table, rows_per_group=_ROWS_PER_GROUP), len(images))
    hashes = [[*slot, pixel_hash(decode_image(data))] for slot, data in images.items()]
    return Record("recover", key, digest_of(["exported", shard.sha256]), (shard,), {"image_sha256": hashes})


def shared_images_table(
    images: Mapping[Slot, bytes], class_names: Sequence[str], *, dataset: str = ""
) -> pa.Table:
    """A table of encoded images. `datasets.load_dataset` gives Image and ClassLabel features."""
    cells = [
        {"bytes": data, "path": official_image_path(slot, "rded", image_suffix(data)).partition("/")[2]}
        for slot, data in images.items()
    ]
    labels = pa.array([label for label, _ in images], pa.int64())
    columns = {
        "image": pa.array(cells, IMAGE_TYPE),
        "label": labels,
        "class_id": labels,  # some evaluators look for this name
        "class_name": pa.array([class_names[label] for label, _ in images], pa.string()),
        "ipc_id": pa.array([ipc_id for _, ipc_id in images], pa.int32()),
    }
    plain = {"class_id": "int64", "class_name": "string", "ipc_id": "int32"}
    return pa.table(columns, metadata=image_metadata(class_names, dataset, plain))


def shared_labels_table(table: pa.Table, epochs: int) -> pa.Table:
    """A table of labels with its first epochs only, and texts as texts: `datasets` knows no dictionaries."""
    place = table.schema.get_field_index("mix")
    table = table.set_column(place, "mix", table.column("mix").cast(pa.string()))
    kept = integers(table.column("epoch")) < epochs
    return table if kept.all() else table.filter(pa.array(kept))


def rows_of_epoch(table: pa.Table) -> int:
    """Rows of the first epoch of a table of labels. All epochs have as many."""
    epochs = integers(table.column("epoch"))
    return int(np.count_nonzero(epochs == epochs[0]))


def write_label_tables(url: str | Store, target: ExportTarget, epochs: int) -> None:
    """Write the labels of the first epochs of a run, and their manifest."""
    store, folder, manifest = open_stage(url, None, "relabel")
    records = []
    for record in records_of_epochs(store.url, manifest, epochs):
        (shard,) = record.shards
        location = store.join(join_path(folder, shard.path))
        table = shared_labels_table(table_from_bytes(read_shard(store, folder, shard), url=location), epochs)
        first, last = record.meta["epochs"]
        last = min(last, epochs - 1)
        key = epochs_key(first, last)
        # Plain numbers are a tenth larger, but every reader knows them.
        data = table_to_bytes(table, rows_per_group=rows_of_epoch(table), split_floats=False)
        path = join_path(stage_folder("relabel"), table_name(key))
        info = _put(target, path, table_name(key), data, table.num_rows)
        fingerprint = digest_of(["exported", info.sha256])
        records.append(Record("relabel", key, fingerprint, (info,), {"epochs": [first, last]}))
    size = sum(shard.bytes for record in records for shard in record.shards)
    # The place that a copy was made from is private.
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
