"""Labels that a run takes from another run, or from what `edc-ray import` wrote: `relabel.source`.

Both runs must have the same images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from edc_ray.artifacts.proof.records import Record
from edc_ray.artifacts.storage.layout import RUN_CONFIG, RUN_DATA
from edc_ray.artifacts.storage.limits import MAX_CONFIG_BYTES
from edc_ray.artifacts.storage.store import Store
from edc_ray.artifacts.tables.codec import table_to_bytes
from edc_ray.artifacts.tables.schema import LabelRows
from edc_ray.config.run import RunConfig
from edc_ray.data.condensed.images import open_stage, read_label_rows, refuse_no_labels
from edc_ray.data.condensed.label_rows import encoded_labels_table
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.errors import ArtifactError
from edc_ray.stages.recover import stage as recover
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.fingerprint import stage_inputs
from edc_ray.stages.units.image_shards import Slot, manifest_hashes, slot_hashes
from edc_ray.stages.units.stored_runs import check_classes, slots_of_run, stored_config, stored_hashes


def check_stored_labels(url: str, config: RunConfig, data: OpenedDataset) -> None:
    """Refuse a run of other classes, too few epochs, no stored labels, or labels of other images."""
    store, folder, manifest = open_stage(url, None, "relabel")
    check_classes(manifest, data.train.class_names, store.url)
    refuse_no_labels(store, manifest)
    if (stored := sum(len(_range_of(record)) for record in manifest.records)) < config.relabel.epochs:
        raise ArtifactError(
            f"{store.url} holds labels of fewer epochs than are asked for",
            found=f"{stored} epochs",
            expected=f"relabel.epochs = {config.relabel.epochs}",
            next=f"set relabel.epochs={stored}, or unset relabel.source to label them here",
        )
    _check_labelled_images(url, config, data)
    if config.evaluate.order == "groups":
        _check_groups(read_label_rows(store, folder, manifest.records[0]), config, store.url)


def _check_groups(rows: LabelRows, config: RunConfig, url: str) -> None:
    sizes = np.unique(rows.mix_group[rows.epoch == rows.epoch[0]], return_counts=True)[1]
    largest, step = int(sizes.max()), config.evaluate.batch_size * config.evaluate.accumulation
    if step % largest if len(sizes) > 1 else step < largest:
        raise ArtifactError(
            f"evaluate.order=groups takes whole mixing groups, and those in {url} are others",
            found=f"groups of {largest} images, steps of {step}",
            expected="evaluate.batch_size x evaluate.accumulation as a multiple of the groups",
            next=f"set evaluate.batch_size={largest} and evaluate.accumulation=1, or evaluate.order=shuffled",
        )


def _check_labelled_images(url: str, config: RunConfig, data: OpenedDataset) -> None:
    store, _, images = open_stage(url, None, "recover")
    theirs, slots = manifest_hashes(images), slots_of_run(config, data)
    if config.init.source is not None and not config.recover.enabled:
        ours = dict(zip(slots, stored_hashes(config.init.source, slots, data.train.class_names), strict=True))
        _refuse_other_images(store.url, theirs, ours)
    elif theirs.keys() != set(slots):
        raise _other_images(store.url, f"{len(theirs)} images", f"the {len(slots)} images of this run")
    elif (difference := _difference_in_the_making(store, config, data)) is not None:
        raise _other_images(store.url, difference, "images made with the config of this run")


def _difference_in_the_making(store: Store, config: RunConfig, data: OpenedDataset) -> str | None:
    """How the making of a stored run's images differs from this config; None if it does not."""
    if not (store.exists(RUN_CONFIG) and store.exists(RUN_DATA)):
        return f"images without a {RUN_CONFIG} that says how they were made"
    text = store.read(RUN_DATA, limit=MAX_CONFIG_BYTES)
    try:
        trained_on = json.loads(text)["train"]["sha256"]
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise ArtifactError(f"{store.join(RUN_DATA)} is damaged", found=type(error).__name__) from error
    if trained_on != data.train.content_hash:
        return "images made from other training images"
    other = stored_config(store)
    theirs, ours = (stage_inputs(one, recover.STAGE) for one in (other, config))
    for name in ("device", "precision"):
        if ours[name] == "auto":
            ours[name] = theirs[name]
    names = [name for name in sorted(theirs.keys() | ours.keys()) if theirs.get(name) != ours.get(name)]
    return f"images made with another {', '.join(names)}" if names else None


def stored_labels_digest(context: StageContext, url: str, epochs: range) -> Any:
    """Hashes of the files of some epochs of `relabel.source`; an ArtifactError if its images are others."""
    store, _, images = open_stage(url, None, "recover")
    _refuse_other_images(store.url, manifest_hashes(images), slot_hashes(context, "recover"))
    _, _, records = _records_of(url, epochs)
    return [shard.sha256 for record in records for shard in record.shards]


def stored_labels(context: StageContext, url: str, epochs: range) -> tuple[bytes, int]:
    """A table of the labels of some epochs of `relabel.source`, and its number of rows."""
    store, folder, records = _records_of(url, epochs)
    parts = []
    for record in records:
        rows = read_label_rows(store, folder, record)
        parts.append(rows.take(np.flatnonzero(np.isin(rows.epoch, list(epochs)))))
    joined = LabelRows.concatenate(parts)
    table = encoded_labels_table(
        joined, context.data.train.class_names, dataset=context.config.dataset.name,
        codec=context.config.relabel.codec,
    )  # fmt: skip
    return table_to_bytes(table, rows_per_group=len(joined) // len(epochs)), len(joined)


def _refuse_other_images(url: str, theirs: Mapping[Slot, str], ours: Mapping[Slot, str]) -> None:
    differing = [slot for slot in ours.keys() | theirs.keys() if ours.get(slot) != theirs.get(slot)]
    if differing:
        label, ipc_id = min(differing)
        found = f"{len(differing)} images differ; the first is class {label}, ipc id {ipc_id}"
        raise _other_images(url, found, f"the {len(ours)} condensed images of this run")


def _other_images(url: str, found: str, expected: str) -> ArtifactError:
    return ArtifactError(
        f"relabel: the labels in {url} are of another image set", found=found, expected=expected,
        next="init.source of the same run, recover.enabled=false and its ipc, or unset relabel.source",
    )  # fmt: skip


def _records_of(url: str, epochs: range) -> tuple[Store, str, list[Record]]:
    """Store and folder of a run's labels, and its records of some epochs."""
    store, folder, manifest = open_stage(url, None, "relabel")
    return store, folder, [one for one in manifest.records if set(epochs) & set(_range_of(one))]


def _range_of(record: Record) -> range:
    first, last = record.meta["epochs"]
    return range(first, last + 1)
