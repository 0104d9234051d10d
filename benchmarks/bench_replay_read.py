"""Views per second of a condensed set: read from files and from S3, alone and while a student trains.

They are compared with the official layout as `reference.label_batches` reads it: a JPEG for each image,
opened in each epoch, and a torch file of labels for each batch. Both loaders show the same number of views
of the same images in batches of the same size. Each turn opens the set again. With few epochs, opening takes
most of the time, above all on S3.

A row is compared with the official layout at the same place. The official programs read local files only. On
S3 their loader has one change: it fetches a file with one request when it needs it. In one process these
requests do not overlap, and nothing is kept for the next epoch. --workers adds rows in which both loaders
have so many workers, as the official programs have.

`S3` is the server of the environment (AWS_ENDPOINT_URL and the usual keys; --bucket names a bucket). Without
--bucket it is a moto server in this process, which shares the processor. S3 is read first without a local
copy, then from copies. The system's caches are warm for every row. What is written to the bucket is deleted
at the end.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from fsspec.core import url_to_fs
from harness import (
    base_parser,
    interleaved,
    peak_megabytes,
    print_json,
    print_note,
    print_table,
    provenance,
)
from reference.label_batches import Recipe, relabel_epoch, stored_batches, write_pictures
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from edc_ray.artifacts.proof.manifest import write_manifest, write_unit
from edc_ray.artifacts.storage.layout import epochs_key, table_name
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.artifacts.tables.codec import table_to_bytes
from edc_ray.artifacts.tables.schema import LabelRows, build_images_table
from edc_ray.core.views.views import ViewSettings, draw_epoch_views
from edc_ray.data.condensed.label_rows import encoded_labels_table, rows_of_views
from edc_ray.data.condensed.stream import CondensedDataset
from edc_ray.models.registry import build_network

MEAN = STD = [0.5, 0.5, 0.5]
RECIPE = Recipe(kind="tensor", mean=MEAN, std=STD)
OFFICIAL, OFFICIAL_S3 = "official layout, files", "official layout, S3"
Batches = Iterable[tuple[Tensor, Tensor]]


class Compared(NamedTuple):
    """A loader, opened again by each call, and the row that it is compared with."""

    reference: str
    batches: Callable[[], Batches]


def write_set(store: Store, images: np.ndarray, arguments: argparse.Namespace) -> None:
    """A condensed set of some images with labels of noise, in one file for every ten epochs."""
    names = [str(label) for label in range(arguments.classes)]
    labels, ipc_ids = np.arange(len(images)) % arguments.classes, np.arange(len(images)) // arguments.classes
    dataset = {"name": "noise", "class_names": names}
    shard = (table_to_bytes(build_images_table(images, labels, ipc_ids, names)), len(images))
    record = write_unit(store, "condensed", "all", "f", {"all.parquet": shard})
    meta = {"mean": MEAN, "std": STD}
    write_manifest(store, "condensed", [record], fingerprint="f", dataset=dataset, meta=meta)
    slots = [(int(label), int(ipc_id)) for label, ipc_id in zip(labels, ipc_ids, strict=True)]
    settings = ViewSettings(mix_group=arguments.batch_size)
    noise = np.random.default_rng(1)
    drawn = []
    for epoch in range(arguments.epochs):
        views = draw_epoch_views(0, epoch, slots, images.shape[-1], settings)
        logits = noise.normal(size=(len(images), len(names))).astype(np.float16)
        drawn.append(rows_of_views(epoch, views, labels, ipc_ids, logits))
    records = []
    for first in range(0, arguments.epochs, 10):
        part = LabelRows.concatenate(drawn[first : first + 10])
        last = int(part.epoch[-1])
        table = encoded_labels_table(part, names, codec="fp16")
        shard = (table_to_bytes(table, rows_per_group=len(images)), len(part))
        key = epochs_key(first, last)
        shards = {table_name(key): shard}
        records.append(write_unit(store, "labels", key, "f", shards, {"epochs": [first, last]}))
    write_manifest(store, "labels", records, fingerprint="f", dataset=dataset)


class _Noise(nn.Module):
    """An observer whose answers cost nothing."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self._classes = classes

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return torch.randn(len(images_BCHW), self._classes)


def write_official(folder: Path, images: np.ndarray, arguments: argparse.Namespace) -> list[str]:
    """Write the images as JPEG, and a file of labels for each batch of each epoch; the pictures' names."""
    paths = write_pictures(folder / "images", images, ".jpg")
    for epoch in range(arguments.epochs):
        observers = [_Noise(arguments.classes)]
        relabel_epoch(paths, RECIPE, arguments.batch_size, observers, folder / f"epoch_{epoch}")
    return [path.name for path in paths]


def ours(url: str, arguments: argparse.Namespace, cache: str | None, workers: int = 0) -> Batches:
    """Batches of the stream, opened again."""
    dataset = CondensedDataset(url, batch_size=arguments.batch_size, cache=cache)
    for batch in DataLoader(dataset, batch_size=None, num_workers=workers):
        yield batch.image, batch.logits


def official(folder: str, names: list[str], epochs: int, workers: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the official layout; `names` of the pictures in its folder."""
    paths = [f"{folder}/images/{name}" for name in names]
    for epoch in range(epochs):
        batches = stored_batches(paths, RECIPE, f"{folder}/epoch_{epoch}", workers=workers)
        for images, logits, _ in batches:
            yield images, logits


def show(batches: Callable[[], Batches]) -> Callable[[], None]:
    """The loader alone."""

    def run() -> None:
        for _ in batches():
            pass

    return run


def train(batches: Callable[[], Batches], arguments: argparse.Namespace) -> Callable[[], None]:
    """A student that learns the labels."""
    network = build_network(
        "convnet_w32", num_classes=arguments.classes, image_size=arguments.side, channels=3, seed=0
    ).to(arguments.device)
    optimizer = torch.optim.AdamW(network.parameters())

    def run() -> None:
        for images, logits in batches():
            loss = F.mse_loss(network(images.to(arguments.device)), logits.to(arguments.device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return run


def s3_folder(bucket: str | None, stack: ExitStack) -> tuple[str, str]:
    """A URL, and what serves it."""
    if bucket is not None:
        url = f"s3://{bucket}/{uuid.uuid4().hex}"
        stack.callback(lambda: url_to_fs(url)[0].rm(url, recursive=True))
        return url, "the server of the environment"
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    stack.callback(server.stop)
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    client = boto3.client("s3")
    client.create_bucket(Bucket="bench")
    client.close()
    return "s3://bench/run", "moto"


def loaders(folder: Path, s3: str, arguments: argparse.Namespace) -> dict[str, Compared]:
    """Writes everything; what is compared, by name."""
    shape = (arguments.images, 3, arguments.side, arguments.side)
    small = np.random.default_rng(0).integers(0, 256, (*shape[:2], 4, 4), dtype=np.uint8)
    images = np.ascontiguousarray(np.kron(small, np.ones((1, 1, shape[2] // 4, shape[3] // 4), np.uint8)))
    local, cache, tree = str(folder / "run"), str(folder / "cache"), str(folder / "official")
    for url in (local, f"{s3}/run"):
        write_set(open_store(url), images, arguments)
    names = write_official(folder / "official", images, arguments)
    there = f"{s3}/official"
    url_to_fs(there)[0].put(f"{tree}/", f"{there}/", recursive=True)
    epochs = arguments.epochs
    found: dict[str, Compared] = {
        OFFICIAL: Compared(OFFICIAL, lambda: official(tree, names, epochs)),
        "CondensedDataset, files": Compared(OFFICIAL, lambda: ours(local, arguments, None)),
        OFFICIAL_S3: Compared(OFFICIAL_S3, lambda: official(there, names, epochs)),
        "CondensedDataset, S3": Compared(OFFICIAL_S3, lambda: ours(f"{s3}/run", arguments, None)),
        "CondensedDataset, S3 copied": Compared(OFFICIAL_S3, lambda: ours(f"{s3}/run", arguments, cache)),
    }
    if workers := arguments.workers:
        with_workers = f"{{}}, {workers} workers".format
        here, away = with_workers(OFFICIAL), with_workers(OFFICIAL_S3)
        found |= {
            here: Compared(here, lambda: official(tree, names, epochs, workers)),
            with_workers("CondensedDataset, files"): Compared(
                here, lambda: ours(local, arguments, None, workers)
            ),
            away: Compared(away, lambda: official(there, names, epochs, workers)),
            with_workers("CondensedDataset, S3"): Compared(
                away, lambda: ours(f"{s3}/run", arguments, None, workers)
            ),
        }
    return found


def main() -> None:
    parser = base_parser(__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--side", type=int, default=32, help="of an image; a multiple of 4")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--workers", type=int, default=0, help="adds rows with so many loader workers")
    parser.add_argument("--bucket", help="on the S3 server of the environment; without it moto serves")
    parser.set_defaults(repeats=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = Path(tempfile.mkdtemp())
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        s3, served = s3_folder(arguments.bucket, stack)
        compared = loaders(folder, s3, arguments)
        runs = {f"{name}: alone": show(one.batches) for name, one in compared.items()}
        runs |= {f"{name}: training": train(one.batches, arguments) for name, one in compared.items()}
        timings = interleaved(runs, arguments.repeats, arguments.device)
        peaks = {name: peak_megabytes(runs[f"{name}: alone"], arguments.device) for name in compared}
    report(arguments, timings, {name: one.reference for name, one in compared.items()}, peaks, served)


def report(
    arguments: argparse.Namespace,
    timings: dict[str, Any],
    references: dict[str, str],
    peaks: dict[str, float | None],
    served: str,
) -> None:
    """A table; with --json the same as the last line.

    Args:
        arguments: of the command line.
        timings: of each row, alone and training.
        references: row -> the row it is compared with.
        peaks: megabytes that a row alone needs at most.
        served: what S3 is.
    """
    count = arguments.images * arguments.epochs
    rows = []
    for name, reference in references.items():
        pairs = [(timings[f"{name}: {how}"], timings[f"{reference}: {how}"]) for how in ("alone", "training")]
        ratios = [theirs.minimum / one.minimum for one, theirs in pairs]
        rates = [count / one.minimum for one, _ in pairs]
        medians = [count / one.median for one, _ in pairs]
        rows.append([name, rates[0], ratios[0], rates[1], ratios[1], *medians, peaks[name]])
    header = ["views per second", "alone", "times official", "training ConvNet W32", "times official",
              "alone, median", "training, median", "MB"]  # fmt: skip
    print_table(header, rows)
    shape = {key: getattr(arguments, key) for key in ("images", "classes", "side", "epochs", "batch_size")}
    print_note(f"{shape}; S3 is {served}")
    if arguments.json:
        keys = ("name", "alone", "times_official", "training", "training_times_official", "alone_median",
                "training_median", "peak_mb")  # fmt: skip
        print_json(
            {
                "rows": [dict(zip(keys, row, strict=True)) for row in rows], "shape": shape, "s3": served,
                "repeats": arguments.repeats, "provenance": provenance(arguments.device),
            }
        )  # fmt: skip


if __name__ == "__main__":
    main()
