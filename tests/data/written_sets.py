"""Small condensed sets that tests of their readers write."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edc_ray.artifacts.proof.manifest import Record, write_manifest, write_unit
from edc_ray.artifacts.storage.layout import block_key, epochs_key, table_name
from edc_ray.artifacts.storage.store import Store
from edc_ray.artifacts.tables.codec import table_to_bytes
from edc_ray.artifacts.tables.schema import LabelRows, build_images_table
from edc_ray.core.seeding import draws
from edc_ray.core.views.views import EpochViews, Mix, ViewSettings, draw_epoch_views, render_views
from edc_ray.data.condensed.label_rows import decoded_label_rows, encoded_labels_table, rows_of_views

NAMES, IPC, SIDE, EPOCHS = ("cat", "dog", "owl"), 2, 8, 3
MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.2, 0.3]
SLOTS = [(label, ipc_id) for label in range(len(NAMES)) for ipc_id in range(IPC)]


def finish(store: Store, folder: str, records: list[Record], **meta: object) -> None:
    dataset = {"name": "pets", "class_names": list(NAMES)}
    write_manifest(store, folder, records, fingerprint="f", config_digest="c", dataset=dataset, meta=meta)


def write_images(store: Store) -> np.ndarray:
    """Two units, the later classes first, to be read in the order of label and ipc id."""
    images = np.random.default_rng(0).integers(0, 256, (len(SLOTS), 3, SIDE, SIDE), dtype=np.uint8)
    labels, ipc_ids = (np.array(values) for values in zip(*SLOTS, strict=True))
    records = []
    for rows in (slice(2, 6), slice(0, 2)):
        key = block_key(int(labels[rows][0]), int(labels[rows][-1]), 0, IPC - 1)
        table = build_images_table(images[rows], labels[rows], ipc_ids[rows], NAMES, dataset="pets")
        shard = (table_to_bytes(table), table.num_rows)
        records.append(write_unit(store, "condensed", key, "f", {table_name(key): shard}))
    finish(store, "condensed", records, mean=MEAN, std=STD)
    return images


def label_rows(views: EpochViews, epoch: int) -> LabelRows:
    """What a stage that labels views stores of them."""
    labels, ipc_ids = np.array(SLOTS).T
    logits = draws(2, epoch).normal(len(views), len(NAMES)).astype(np.float16)
    return rows_of_views(epoch, views, labels, ipc_ids, logits)


def write_labels(
    store: Store,
    images: np.ndarray,
    mix: Mix = "cutmix",
    *,
    codec: str = "fp16",
    units: tuple[tuple[int, int], ...] = ((0, 1), (2, 2)),
    epochs_per_group: int = 1,
) -> list[tuple[Tensor, LabelRows]]:
    """Units of the epochs first..last each; returns what a student must see in each epoch."""
    settings = ViewSettings(crop_scale=(0.3, 1.0), mix=mix, mix_group=4)
    expected, records = [], []
    for first, last in units:
        drawn = [draw_epoch_views(0, epoch, SLOTS, SIDE, settings) for epoch in range(first, last + 1)]
        rows = LabelRows.concatenate([label_rows(views, first + k) for k, views in enumerate(drawn)])
        table = encoded_labels_table(rows, NAMES, codec=codec)
        shard = (table_to_bytes(table, rows_per_group=epochs_per_group * len(SLOTS)), len(rows))
        records.append(_write_unit(store, first, last, shard))
        decoded = decoded_label_rows(table)
        for views, epoch in zip(drawn, range(first, last + 1), strict=True):
            everyone = np.arange(len(SLOTS))
            rendered = render_views(torch.from_numpy(images), views, everyone, mean=MEAN, std=STD)
            expected.append((rendered, decoded.take(np.flatnonzero(decoded.epoch == epoch))))
    finish(store, "labels", records)
    return expected


def write_label_unit(store: Store, rows: LabelRows, first: int, last: int) -> Record:
    table = encoded_labels_table(rows, NAMES, codec="fp16")
    return _write_unit(store, first, last, (table_to_bytes(table), len(rows)))


def _write_unit(store: Store, first: int, last: int, shard: tuple[bytes, int]) -> Record:
    key = epochs_key(first, last)
    return write_unit(store, "labels", key, "f", {table_name(key): shard}, {"epochs": [first, last]})
