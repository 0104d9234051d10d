"""Converting the files of other programs to a folder of ours: `edc-ray import`, `import-statistics`.

The folder is read like any run: by `edc_ray.data.condensed`, `edc-ray verify`, and by another run through its
`init.source`, `relabel.source` and `statistics.source`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch

from edc_ray.artifacts.proof.manifest import copy_units, read_manifest, read_shard, write_manifest, write_unit
from edc_ray.artifacts.proof.records import Manifest, Record
from edc_ray.artifacts.storage.layout import block_key, epochs_key, network_key, stage_folder, table_name
from edc_ray.artifacts.storage.limits import MAX_BATCH_BYTES
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.artifacts.tables.codec import table_from_bytes, table_to_bytes
from edc_ray.artifacts.tables.schema import (
    LabelRows,
    build_labels_table,
    build_statistics_table,
    read_images_table,
)
from edc_ray.config.dataset import DatasetSpec
from edc_ray.config.run import RunConfig, StageName
from edc_ray.data.condensed.images import images_digest
from edc_ray.data.real.undecoded import NUM_THREADS
from edc_ray.digests import digest_of
from edc_ray.errors import ConfigError, DataError
from edc_ray.models.registry import build_network
from edc_ray.sharing.facts import facts_beside
from edc_ray.sharing.formats.folders import open_condensed_folder
from edc_ray.sharing.formats.official_images import OfficialFolder, Slot
from edc_ray.sharing.formats.official_labels import batch_from_bytes, list_batches, rows_of_epoch
from edc_ray.stages.statistics.source import TreeSource, refuse_shared_name, wanted_of
from edc_ray.stages.units.image_shards import images_output
from edc_ray.stages.units.plan import blocks
from edc_ray.stages.units.provenance import environment_facts
from edc_ray.stages.units.stored_runs import check_classes, numbered_names

_LABELS = stage_folder("relabel")


def import_images(config: RunConfig, url: str, dest: str, *, labels: str | None = None) -> str:
    """Import a folder of condensed images, and label files of them.

    Args:
        config: its dataset states the classes, size, mean and std of the images.
        url: of the folder that holds new000/, 00000/, train/00000/, data/*.parquet or *.tar. If it has an
            edc_ray.json, its facts about the set are kept.
        dest: URL of the folder to write. It then reads like a run whose recover (and relabel) are done.
        labels: URL of the folder that holds epoch_0/.

    Returns:
        What was imported, as a sentence.

    Raises:
        ConfigError: labels are given and the dataset's mean or std is not.
        DataError, ArtifactError: the files are no whole set, damaged, or do not fit the dataset or each
            other. If a later image or epoch is damaged, files are written, but no manifest of their stage.
    """
    if labels is not None and (config.dataset.mean is None or config.dataset.std is None):
        raise ConfigError(
            "labels belong to normalised images, and the files do not say how they were normalised",
            found=f"dataset {config.dataset.name} without mean or std",
            next="give dataset.mean=[...] and dataset.std=[...], or --config RUN.YAML of a run of it",
        )
    source = open_store(url, writable=False)
    copied = read_manifest(source, "")
    if copied is not None and copied.stage == "recover":
        if labels is not None:
            raise ConfigError(
                f"{url} has its own labels", found=f"--labels {labels}", next="leave --labels out"
            )
        return _import_copy(config.dataset, source, copied, _empty_folder(dest, ["recover", "relabel"]))
    folder = open_condensed_folder(url)
    spec = _fitting(config.dataset, folder)
    epochs: list[Callable[[], LabelRows]] = []
    if labels is not None:
        label_store = open_store(labels, writable=False)
        batches = enumerate(list_batches(label_store))
        epochs = [partial(_read_epoch, label_store, paths, folder, spec, epoch) for epoch, paths in batches]
        epochs[0]()  # refused before anything is written
    store = _empty_folder(dest, ["recover", "relabel"] if epochs else ["recover"])
    origin = facts_beside(source)
    _write_images(store, folder, spec, config.recover.classes_per_unit, origin)
    told = f"{len(folder.files)} images of {folder.num_classes} classes"
    if epochs:
        _write_labels(store, epochs, spec, config.relabel.epochs_per_unit)
        told += f", labels of {len(epochs)} epochs"
    return f"{store.url}: {told}"


def import_statistics(config: RunConfig, url: str, dest: str, *, class_patch_swapped: bool = True) -> str:
    """Import an official tree of statistics: one table for each observer of recover.

    Args:
        config: its observers, dataset and `statistics.patch_side` say what the tree must hold.
        url: of the folder that holds ConvFeatureHook.
        dest: URL of the folder to write.
        class_patch_swapped: the class files hold patch mean and variance under each other's key.

    Returns:
        What was imported, as a sentence.

    Raises:
        ConfigError: the dataset's size or classes are not given.
        ArtifactError: files are missing, damaged, or of another observer, dataset or size.
    """
    spec = config.dataset
    shape: dict[str, Any] = {name: getattr(spec, name) for name in ("num_classes", "image_size", "channels")}
    if unknown := [name for name, value in shape.items() if value is None]:
        raise ConfigError(
            f"import-statistics needs to know dataset.{unknown[0]}",
            next=f"give dataset.{unknown[0]}=..., or --config RUN.YAML of a run of it",
        )
    names = spec.class_names or numbered_names(shape["num_classes"])
    spec = spec.model_copy(update={"class_names": names})
    official = config.model_copy(
        update={"recover": config.recover.model_copy(update={"variance": "official"})}
    )
    source, taken = TreeSource(open_store(url, writable=False), class_patch_swapped), dict[str, str]()
    wanted = []
    for observer in config.observers_of("recover"):
        network = build_network(observer, **shape, seed=0)
        wanted.append(wanted_of(official, observer, network, names))
        source.check(wanted[-1])
        refuse_shared_name(taken, observer, source.network_name(wanted[-1]))
    store = _empty_folder(dest, ["statistics"])
    records = []
    for one in wanted:
        rows, digest = source.read(one)
        table = build_statistics_table(rows, names, dataset=spec.name)
        key = network_key(one.observer)
        shards = {table_name(key): (table_to_bytes(table), table.num_rows)}
        meta = {"observer": one.observer, "network": source.network_name(one)}
        records.append(_unit(store, "statistics", key, digest, shards, meta))
    _finish(store, "statistics", records, spec, {"patch_side": config.statistics.patch_side})
    return f"{store.url}: statistics of {', '.join(one.observer for one in wanted)}"


def _fitting(spec: DatasetSpec, folder: OfficialFolder) -> DatasetSpec:
    """The dataset with class names; refuses a folder of other classes or sizes."""
    if spec.class_names:
        spec = spec.model_copy(update={"num_classes": len(spec.class_names)})
    channels, size = folder.read([0]).shape[1:3]
    shape = {"num_classes": folder.num_classes, "image_size": size, "channels": channels}
    _refuse_other_images(spec, folder.store.url, **shape)
    if spec.class_names and folder.class_names and spec.class_names != folder.class_names:
        raise DataError(
            f"{folder.store.url} holds images of another dataset, or its classes in another order",
            found=", ".join(folder.class_names[:5]),
            expected=", ".join(spec.class_names[:5]),
            next="give the recipe of this dataset, or its dataset.class_names",
        )
    names = spec.class_names or folder.class_names or numbered_names(folder.num_classes)
    return spec.model_copy(update={"class_names": names, "image_size": size, "channels": channels})


def _import_copy(spec: DatasetSpec, source: Store, images: Manifest, dest: Store) -> str:
    """Import what `export --format huggingface` wrote. Manifests prove its files, so they are copied."""
    labels = read_manifest(source, _LABELS)
    _check_copy(spec, source, images)
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


def _check_copy(spec: DatasetSpec, source: Store, images: Manifest) -> None:
    stated = spec.class_names or images.dataset["class_names"]
    check_classes(images, stated, source.url)
    shard = images.shards[0]
    url = source.join(shard.path)
    first = table_from_bytes(read_shard(source, "", shard), url=url).slice(0, 1)
    _, channels, size, _ = read_images_table(first, url=url).images.shape
    _refuse_other_images(spec, source.url, num_classes=len(stated), image_size=size, channels=channels)


def _refuse_other_images(spec: DatasetSpec, url: str, **found: int) -> None:
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


def _write_images(
    store: Store, folder: OfficialFolder, spec: DatasetSpec, classes_per_unit: int, origin: dict[str, Any]
) -> None:
    rows = {slot: row for row, slot in enumerate(folder.slots)}
    records = []
    for first, end in blocks(folder.num_classes, classes_per_unit):
        slots: list[Slot] = [(label, ipc_id) for label in range(first, end) for ipc_id in range(folder.ipc)]
        images = folder.read([rows[slot] for slot in slots])
        if images.shape[1:] != (spec.channels, spec.image_size, spec.image_size):
            raise DataError(
                f"{folder.store.url}: the images are not squares of one size",
                found=f"{images.shape[1:]} from class {first} on",
                expected=f"{(spec.channels, spec.image_size, spec.image_size)}, as class 0 has",
            )
        key = block_key(first, end - 1, 0, folder.ipc - 1)
        made = images_output(spec, key, images, slots, {"matching_loss": None})
        digest = digest_of(made.meta["image_sha256"])
        records.append(_unit(store, "recover", key, digest, made.shards, made.meta))
    _finish(store, "recover", records, spec, {"matching_loss": None, "ipc": folder.ipc} | origin)


def _write_labels(
    store: Store, epochs: Sequence[Callable[[], LabelRows]], spec: DatasetSpec, epochs_per_unit: int
) -> None:
    records = []
    for first, end in blocks(len(epochs), epochs_per_unit):
        rows = LabelRows.concatenate([read() for read in epochs[first:end]])
        table = build_labels_table(rows, spec.class_names or (), dataset=spec.name)
        data = table_to_bytes(table, rows_per_group=len(rows) // (end - first))
        key, digest = epochs_key(first, end - 1), hashlib.sha256(data).hexdigest()
        shards = {table_name(key): (data, len(rows))}
        records.append(_unit(store, "relabel", key, digest, shards, {"epochs": [first, end - 1]}))
    size = sum(shard.bytes for record in records for shard in record.shards)
    _finish(store, "relabel", records, spec, {"epochs": len(epochs), "codec": "fp16", "bytes": size})


def _read_epoch(
    store: Store, paths: Sequence[str], folder: OfficialFolder, spec: DatasetSpec, epoch: int
) -> LabelRows:
    assert spec.image_size is not None
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        contents = list(pool.map(lambda path: store.read(path, limit=MAX_BATCH_BYTES), paths))
    # One after the other: the allow-list of torch.load belongs to the process.
    batches = [
        batch_from_bytes(data, url=store.join(path)) for path, data in zip(paths, contents, strict=True)
    ]
    url = store.join(f"epoch_{epoch}")
    return rows_of_epoch(batches, folder.slots, folder.num_classes, spec.image_size, epoch, url=url)


def _empty_folder(dest: str, stages: Sequence[StageName]) -> Store:
    store = open_store(dest)
    for stage in stages:
        if held := store.list(stage_folder(stage)):
            raise ConfigError(
                f"{store.url} is not empty",
                found=held[0],
                expected=f"no {stage_folder(stage)}/",
                next="give another folder to write",
            )
    return store


def _unit(
    store: Store,
    stage: StageName,
    key: str,
    digest: str,
    shards: Mapping[str, tuple[bytes, int]],
    meta: Mapping[str, Any],
) -> Record:
    return write_unit(store, stage_folder(stage), key, digest_of(["imported", digest]), shards, meta)


def _finish(
    store: Store, stage: StageName, records: list[Record], spec: DatasetSpec, meta: dict[str, Any]
) -> None:
    mean_std = {name: list(getattr(spec, name)) for name in ("mean", "std") if getattr(spec, name)}
    write_manifest(
        store, stage_folder(stage), records, fingerprint=digest_of([one.fingerprint for one in records]),
        dataset={"name": spec.name, "class_names": list(spec.class_names or ())}, meta=meta | mean_std,
        environment=environment_facts(torch.device("cpu")),
    )  # fmt: skip
