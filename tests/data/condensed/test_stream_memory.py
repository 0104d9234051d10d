"""The memory of a stream of views, on stores ten times larger than the memory that it states."""

from __future__ import annotations

import ctypes
import multiprocessing
import sys
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from edc_ray.artifacts.proof.manifest import write_manifest, write_unit
from edc_ray.artifacts.storage.layout import epochs_key, table_name
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.artifacts.tables.codec import table_to_bytes
from edc_ray.artifacts.tables.schema import LabelRows, build_images_table
from edc_ray.core.views.views import ViewSettings, draw_epoch_views
from edc_ray.data.condensed.label_rows import encoded_labels_table, rows_of_views
from edc_ray.data.condensed.stream import CondensedDataset

NUM_CLASSES, SIDE, BATCH_SIZE, EPOCHS_OF_A_FILE = 1000, 4, 50, 20


@pytest.mark.parametrize(
    ("codec", "num_epochs", "decoding"),
    [("fp16", 160, 0), pytest.param("pca48_top16_q6", 260, 20, marks=pytest.mark.nightly)],
)
def test_what_is_allocated_stays_below_the_stated_bound(
    tmp_path: Path, codec: str, num_epochs: int, decoding: int
) -> None:
    num_views = BATCH_SIZE
    store = open_store(str(tmp_path))
    _write(store, codec, num_views, num_epochs)
    dataset = CondensedDataset(store.url, batch_size=BATCH_SIZE)
    bound = _bound(dataset, tmp_path, num_views, decoding)
    assert 10 * bound < num_epochs * num_views * 2 * NUM_CLASSES
    for _ in dataset:  # what is imported or made once, some of it when the second file is read
        pass
    pool, before = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        assert sum(len(batch.label) for batch in dataset) == num_views * num_epochs
        needed = tracemalloc.get_traced_memory()[1] + (pool.max_memory() or 0) + dataset.views.images.nbytes
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)
    assert bound / 10 < needed < bound


@pytest.mark.nightly
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells how much memory a process has")
def test_what_a_process_grows_by_stays_below_the_stated_bound(tmp_path: Path) -> None:
    """torch's memory counts here, too."""
    num_views, num_epochs = 1000, 140
    store = open_store(str(tmp_path))
    _write(store, "fp16", num_views, num_epochs)
    dataset = CondensedDataset(store.url, batch_size=BATCH_SIZE)
    bound = _bound(dataset, tmp_path, num_views)
    stored = sum(path.stat().st_size for path in (tmp_path / "labels").glob("*.parquet"))
    assert 10 * bound < stored
    # Sometimes an allocator holds one more segment, whatever the stream does, so the least of three counts.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as processes:
        grown = min(processes.submit(_growth, store.url).result(timeout=200) for _ in range(3))
    assert bound / 10 < grown < bound


def _bound(dataset: CondensedDataset, folder: Path, num_views: int, decoding: int = 0) -> int:
    """As the class states it; nothing for the batch, which is small here."""
    files = [pq.ParquetFile(path).metadata for path in (folder / "labels").glob("*.parquet")]
    group = max(file.row_group(k).total_byte_size for file in files for k in range(file.num_row_groups))
    per_view = (12 + decoding) * NUM_CLASSES + 2048
    return dataset.views.images.nbytes + num_views * per_view + 3 * group + 2**19


def _growth(url: str) -> int:
    """Most bytes of this process beyond those in use when the set was open and one batch seen."""
    torch.set_num_threads(1)
    next(iter(CondensedDataset(url, batch_size=BATCH_SIZE)))
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # sets the highest size so far to the present one
    before = _kibibytes("VmRSS")
    for _ in CondensedDataset(url, batch_size=BATCH_SIZE):
        pass
    return 1024 * (_kibibytes("VmHWM") - before)


def _kibibytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def _write(store: Store, codec: str, num_views: int, num_epochs: int) -> None:
    names = [str(label) for label in range(NUM_CLASSES)]
    labels, ipc_ids = np.arange(num_views), np.zeros(num_views, int)
    images = np.random.default_rng(0).integers(0, 256, (num_views, 3, SIDE, SIDE), dtype=np.uint8)
    meta = {"mean": [0.5] * 3, "std": [0.5] * 3}
    table = build_images_table(images, labels, ipc_ids, names)
    record = write_unit(store, "condensed", "all", "f", {"all.parquet": (table_to_bytes(table), num_views)})
    dataset = {"name": "many", "class_names": names}
    write_manifest(store, "condensed", [record], fingerprint="f", dataset=dataset, meta=meta)
    views = draw_epoch_views(0, 0, [(k, 0) for k in range(num_views)], SIDE, ViewSettings())
    logits = np.random.default_rng(1).normal(size=(num_views, NUM_CLASSES)).astype(np.float16)
    one, records = rows_of_views(0, views, labels, ipc_ids, logits), []
    for first in range(0, num_epochs, EPOCHS_OF_A_FILE):
        epochs = range(first, first + EPOCHS_OF_A_FILE)
        rows = LabelRows.concatenate([replace(one, epoch=np.full(num_views, k)) for k in epochs])
        data = table_to_bytes(encoded_labels_table(rows, names, codec=codec), rows_per_group=num_views)
        key = epochs_key(first, epochs[-1])
        meta = {"epochs": [first, epochs[-1]]}
        records.append(write_unit(store, "labels", key, "f", {table_name(key): (data, len(rows))}, meta))
    write_manifest(store, "labels", records, fingerprint="f", dataset=dataset)
