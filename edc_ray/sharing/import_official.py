"""Files that others read as a folder of ours, proven by manifests: `edc-ray import`, `import-statistics`.

Converted once, they are read like any run: by `edc_ray.data.condensed`, `edc-ray verify`, and by another run
through its `init.source`, `relabel.source` and `statistics.source`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch

from edc_ray.artifacts.proof.manifest import write_manifest, write_unit
from edc_ray.artifacts.proof.records import Record
from edc_ray.artifacts.storage.layout import block_key, epochs_key, network_key, stage_folder, table_name
from edc_ray.artifacts.storage.limits import MAX_BATCH_BYTES
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.artifacts.tables.codec import table_to_bytes
from edc_ray.artifacts.tables.schema import LabelRows, build_labels_table, build_statistics_table
from edc_ray.config.dataset import DatasetSpec
from edc_ray.config.run import RunConfig, StageName
from edc_ray.data.real.undecoded import NUM_THREADS
from edc_ray.digests import digest_of
from edc_ray.errors import ConfigError, DataError
from edc_ray.models.registry import build_network
from edc_ray.sharing.facts import facts_beside
from edc_ray.sharing.formats.folders import open_condensed_folder
from edc_ray.sharing.formats.official_images import OfficialFolder, Slot
from edc_ray.sharing.formats.official_labels import batch_from_bytes, list_batches, rows_of_epoch
from edc_ray.sharing.import_shared import import_shared_copy, is_shared_copy
from edc_ray.stages.statistics.source import TreeSource, refuse_shared_name, wanted_of
from edc_ray.stages.units.image_shards import images_output
from edc_ray.stages.units.plan import blocks
from edc_ray.stages.units.provenance import environment_facts
from edc_ray.stages.units.stored_runs import numbered_names


def import_images(config: RunConfig, url: str, dest: str, *, labels: str | None = None) -> str:
    """Import a folder of condensed images, and label files of them.

    Args:
        config: its dataset says what the images are of: classes, size, mean and std.
        url: of the folder that holds new000/, 00000/, train/00000/, data/*.parquet or *.tar; what an
            edc_ray.json there tells of how they were made is kept.
        dest: URL of the folder to write; it then reads like a run with recover (and relabel) done.
        labels: URL of the folder that holds epoch_0/.

    Returns:
        What was imported, as a sentence.

    Raises:
        ConfigError: labels are given and the dataset's mean or std is not.
        DataError, ArtifactError: the files are no whole set, damaged, or do not fit the dataset or each
            other. Nothing was written then, unless a later image or epoch is the damaged one: its stage has
            no manifest.
    """
    if labels is not None and (config.dataset.mean is None or config.dataset.std is None):
        raise ConfigError(
            "labels belong to normalised images, and the files do not say how they were normalised",
            found=f"dataset {config.dataset.name} without mean or std",
            next="give dataset.mean=[...] and dataset.std=[...], or --config RUN.YAML of a run of it",
        )
    if is_shared_copy(url):
        if labels is not None:
            raise ConfigError(
                f"{url} has its own labels", found=f"--labels {labels}", next="leave --labels out"
            )
        return import_shared_copy(config.dataset, url, _empty_folder(dest, ["recover", "relabel"]))
    folder = open_condensed_folder(url)
    spec = _fitting(config.dataset, folder)
    label_store = None if labels is None else open_store(labels, writable=False)
    epochs = [] if label_store is None else list_batches(label_store)
    size = folder.read([0]).shape[-1]
    if label_store is not None:
        _read_epoch(label_store, epochs[0], folder, size, 0)  # refused before anything is written
    store = _empty_folder(dest, ["recover"] if labels is None else ["recover", "relabel"])
    origin = facts_beside(open_store(url, writable=False))
    _write_images(store, folder, spec, config.recover.classes_per_unit, origin)
    told = f"{len(folder.files)} images of {folder.num_classes} classes"
    if label_store is not None:
        read = partial(_read_epoch, label_store, folder=folder, image_size=size)
        parts = (read(paths, epoch=epoch) for epoch, paths in enumerate(epochs))
        _write_labels(store, parts, len(epochs), spec, config.relabel.epochs_per_unit)
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
    unknown = [name for name in ("num_classes", "image_size", "channels") if getattr(spec, name) is None]
    if unknown:
        raise ConfigError(
            f"import-statistics needs to know dataset.{unknown[0]}",
            next=f"give dataset.{unknown[0]}=..., or --config RUN.YAML of a run of it",
        )
    assert spec.num_classes is not None
    assert spec.image_size is not None
    assert spec.channels is not None
    names = spec.class_names or numbered_names(spec.num_classes)
    official = config.model_copy(
        update={"recover": config.recover.model_copy(update={"variance": "official"})}
    )
    source, taken = TreeSource(open_store(url, writable=False), class_patch_swapped), dict[str, str]()
    wanted = []
    for observer in config.observers_of("recover"):
        network = build_network(
            observer,
            num_classes=spec.num_classes,
            image_size=spec.image_size,
            channels=spec.channels,
            seed=0,
        )
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
    _finish(store, "statistics", records, spec, names, {"patch_side": config.statistics.patch_side})
    return f"{store.url}: statistics of {', '.join(one.observer for one in wanted)}"


def _fitting(spec: DatasetSpec, folder: OfficialFolder) -> DatasetSpec:
    """The dataset with class names; refuses a folder of other classes or sizes."""
    wanted = len(spec.class_names) if spec.class_names else spec.num_classes
    if wanted is not None and wanted != folder.num_classes:
        raise DataError(
            f"{folder.store.url} holds images of another dataset",
            found=f"{folder.num_classes} classes",
            expected=f"{wanted}, as dataset {spec.name} has",
            next="give the recipe of this dataset, or set dataset.num_classes",
        )
    channels, size = folder.read([0]).shape[1:3]
    for field, found, expected in (
        ("image_size", size, spec.image_size),
        ("channels", channels, spec.channels),
    ):
        if expected is not None and found != expected:
            raise DataError(
                f"{folder.store.url} holds images of another dataset or size",
                found=f"{field} {found}",
                expected=f"{field} {expected}, as dataset {spec.name} has",
                next=f"give the recipe of this dataset, or set dataset.{field}={found}",
            )
    if spec.class_names and folder.class_names and spec.class_names != folder.class_names:
        raise DataError(
            f"{folder.store.url} holds images of another dataset, or its classes in another order",
            found=", ".join(folder.class_names[:5]),
            expected=", ".join(spec.class_names[:5]),
            next="give the recipe of this dataset, or its dataset.class_names",
        )
    names = spec.class_names or folder.class_names or numbered_names(folder.num_classes)
    return spec.model_copy(update={"class_names": names, "image_size": size, "channels": channels})


def _write_images(
    store: Store, folder: OfficialFolder, spec: DatasetSpec, classes_per_unit: int, origin: dict[str, Any]
) -> None:
    rows = {slot: row for row, slot in enumerate(folder.slots)}
    names = spec.class_names or ()
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
        records.append(_unit(store, "recover", key, digest, dict(made.shards), dict(made.meta)))
    _finish(store, "recover", records, spec, names, {"matching_loss": None, "ipc": folder.ipc} | origin)


def _write_labels(
    store: Store, parts: Iterator[LabelRows], epochs: int, spec: DatasetSpec, epochs_per_unit: int
) -> None:
    names, records = spec.class_names or (), []
    for first, end in blocks(epochs, epochs_per_unit):
        rows = LabelRows.concatenate([next(parts) for _ in range(first, end)])
        table = build_labels_table(rows, names, dataset=spec.name)
        data = table_to_bytes(table, rows_per_group=len(rows) // (end - first))
        key = epochs_key(first, end - 1)
        shards = {table_name(key): (data, len(rows))}
        records.append(
            _unit(
                store, "relabel", key, hashlib.sha256(data).hexdigest(), shards, {"epochs": [first, end - 1]}
            )
        )
    size = sum(shard.bytes for record in records for shard in record.shards)
    _finish(store, "relabel", records, spec, names, {"epochs": epochs, "codec": "fp16", "bytes": size})


def _read_epoch(
    store: Store, paths: Sequence[str], folder: OfficialFolder, image_size: int, epoch: int
) -> LabelRows:
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        contents = list(pool.map(lambda path: store.read(path, limit=MAX_BATCH_BYTES), paths))
    # One after the other: the allow-list of torch.load belongs to the process.
    batches = [
        batch_from_bytes(data, url=store.join(path)) for path, data in zip(paths, contents, strict=True)
    ]
    url = store.join(f"epoch_{epoch}")
    return rows_of_epoch(batches, folder.slots, folder.num_classes, image_size, epoch, url=url)


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
    shards: dict[str, tuple[bytes, int]],
    meta: dict[str, Any],
) -> Record:
    return write_unit(store, stage_folder(stage), key, digest_of(["imported", digest]), shards, meta)


def _finish(
    store: Store,
    stage: StageName,
    records: list[Record],
    spec: DatasetSpec,
    names: Sequence[str],
    meta: dict[str, Any],
) -> None:
    mean_std = {name: list(getattr(spec, name)) for name in ("mean", "std") if getattr(spec, name)}
    write_manifest(
        store, stage_folder(stage), records, fingerprint=digest_of([one.fingerprint for one in records]),
        dataset={"name": spec.name, "class_names": list(names)}, meta=meta | mean_std,
        environment=environment_facts(torch.device("cpu")),
    )  # fmt: skip
