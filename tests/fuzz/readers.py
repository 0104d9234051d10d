"""Every reader of bytes that others may have written, each with a whole file of its kind.

A reader takes any bytes: it gives what they say, or refuses them as an EdcRayError that names the file.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import torch

from edc_ray.artifacts.proof.records import Manifest, Record, ShardInfo, parse_manifest, parse_record, to_json
from edc_ray.artifacts.storage.store import Store
from edc_ray.artifacts.tables.codec import (
    arrays_from_bytes,
    arrays_to_bytes,
    decode_image,
    encode_image,
    table_from_bytes,
    table_to_bytes,
)
from edc_ray.artifacts.tables.official_statistics import LayerShape, read_official_statistics
from edc_ray.artifacts.tables.schema import (
    LABEL_COLUMNS,
    LabelRows,
    build_images_table,
    build_results_table,
    build_statistics_table,
    read_images_table,
    read_results_table,
    read_statistics_table,
)
from edc_ray.config.load import load_recipe, load_yaml, to_yaml
from edc_ray.data.condensed.images import read_label_rows
from edc_ray.data.condensed.label_epochs import LabelEpochs
from edc_ray.data.condensed.label_rows import decoded_label_rows, encoded_labels_table
from edc_ray.data.condensed.shard_files import open_shard
from edc_ray.data.real.parquet import read_parquet
from edc_ray.data.real.undecoded import Decoding, MemoryReader, decode_rows
from edc_ray.errors import ArtifactError
from edc_ray.models.observers import network_from_bytes, network_to_bytes
from edc_ray.models.registry import build_network
from edc_ray.models.weight_files import read_state
from edc_ray.sharing.export.huggingface import shared_images_table
from edc_ray.sharing.export.target import export_problems
from edc_ray.sharing.formats.folders import open_condensed_folder
from edc_ray.sharing.formats.official_images import open_official_folder
from edc_ray.sharing.formats.official_labels import OfficialBatch, batch_from_bytes, batch_to_bytes
from edc_ray.sharing.formats.tars import images_of_tar
from edc_ray.stages.units.event_log import read_events
from tests.data.made_images import synthetic_images, write_parquet

NAME = "file-of-somebody"
NAMES = ("cat", "dog", "owl")
COUNT = 6


@dataclass(frozen=True)
class Reader:
    """`whole` makes a file; `read` reads one that is called NAME."""

    whole: Callable[[], bytes]
    read: Callable[[bytes], Any]


def label_rows() -> LabelRows:
    """One epoch of unmixed views of three classes of two 8x8 images."""
    zeros = np.zeros(COUNT, np.int64)
    columns: dict[str, Any] = dict.fromkeys(LABEL_COLUMNS, zeros)
    label, ipc_id = np.repeat(np.arange(3), 2), np.tile(np.arange(2), 3)
    columns |= {"label": label, "partner_label": label, "ipc_id": ipc_id, "partner_ipc_id": ipc_id}
    columns |= {"crop_height": zeros + 8, "crop_width": zeros + 8, "flip": zeros == 1}
    columns |= {"mix": np.full(COUNT, "none"), "lam": np.ones(COUNT)}
    logits = np.arange(COUNT * 3, dtype=np.float16).reshape(COUNT, 3)
    return LabelRows(**columns, logits=logits)


def record() -> Record:
    meta = {"epochs": [0, 1], "image_sha256": [[0, 0, "ab"], [0, 1, "cd"]]}
    return Record("recover", "u0", "f" * 64, (ShardInfo("a.parquet", 3, "0" * 64, 1),), meta, 2.5)


def _manifest() -> Manifest:
    dataset = {"name": "pets", "class_names": list(NAMES)}
    return Manifest("recover", "f", "c", dataset, (record(),), {"mean": [0.5], "std": [0.25]})


def _images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (COUNT, 3, 8, 8), dtype=np.uint8)


def _images_file() -> bytes:
    rows = label_rows()
    return table_to_bytes(build_images_table(_images(), rows.label, rows.ipc_id, NAMES))


def _labels_file(codec: str) -> bytes:
    return table_to_bytes(encoded_labels_table(label_rows(), NAMES, codec=codec))


def _statistics_file() -> bytes:
    ones = {"channel_mean": np.ones((3, 4)), "channel_variance": np.ones((3, 4))}
    return table_to_bytes(build_statistics_table({("bn1", "bn", "pooled", "class"): ones}, NAMES))


def _results_file() -> bytes:
    row = {"row": "condensed", "ipc": 1, "student": "a", "seed": 0, "top1": 0.5, "top5": 1.0, "loss": 2.0}
    return table_to_bytes(build_results_table([row], NAMES, metadata={"full": [1]}))


def _official_labels() -> bytes:
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]] * 2)
    batch = OfficialBatch(
        boxes, torch.tensor([True, False]), torch.tensor([1, 0]), 0.5, (0, 0, 4, 4), torch.ones(2, 3),
        torch.tensor([0, 1]),
    )  # fmt: skip
    return batch_to_bytes(batch)


@cache
def _network() -> torch.nn.Module:
    return build_network("convnet_w32", num_classes=3, image_size=8, channels=1, seed=0)


def _network_file() -> bytes:
    return network_to_bytes(_network(), name="convnet_w32", image_size=8, channels=1, class_names=NAMES)


def _torch_weights() -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": {"module.weight": torch.ones(2, 3)}}, buffer)
    return buffer.getvalue()


def _tar_file() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in (("0000.png", encode_image(_images()[0])), ("0000.json", b'{"label": 1}')):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _dataset_file() -> bytes:
    write_parquet(synthetic_images(2, 2, 8, 1, seed=0), "memory://fuzz/whole.parquet")
    return fsspec.filesystem("memory").cat_file("/fuzz/whole.parquet")


def _read_dataset(data: bytes) -> Any:
    filesystem, path = fsspec.filesystem("memory"), f"/fuzz/data/{NAME}"
    filesystem.pipe_file(path, data)
    images = read_parquet(filesystem, [path], path)
    return images.labels.tolist(), images.class_names, images.reader.read(images.rows)


def _read_events(data: bytes) -> Any:
    fsspec.filesystem("memory").pipe_file("/fuzz/run/events.jsonl", data)
    return read_events(Store("memory://fuzz/run"))


def _in_memory(folder: str, files: dict[str, bytes]) -> Store:
    """A folder of this process's memory that holds these files alone."""
    filesystem, root = fsspec.filesystem("memory"), f"/fuzz/{folder}"
    for path, data in files.items():
        filesystem.pipe_file(f"{root}/{path}", data)
    return Store(f"memory://fuzz/{folder}")


def _recorded(data: bytes) -> Record:
    """The record of one epoch of labels in a file that somebody forged together with its hash."""
    shard = ShardInfo(f"{NAME}.parquet", len(data), hashlib.sha256(data).hexdigest(), COUNT)
    return Record("relabel", NAME, "f", (shard,), {"epochs": [0, 0]})


def _read_epoch(data: bytes) -> Any:
    made = _recorded(data)
    store = _in_memory("epochs", {f"labels/{NAME}.parquet": data})
    manifest = Manifest("relabel", "f", "c", {"name": "pets", "class_names": list(NAMES)}, (made,), {})
    return LabelEpochs(store, "labels", manifest).read(0).logits


def _compressed(data: bytes) -> Any:
    store = _in_memory("compress", {f"labels/{NAME}.parquet": data})
    rows = read_label_rows(store, "labels", _recorded(data))
    try:
        return table_to_bytes(encoded_labels_table(rows, NAMES[: rows.logits.shape[1]], codec="q4"))
    except ValueError as error:  # of other classes: `compress_labels` compares them before
        raise ArtifactError(f"{NAME} is of other classes") from error


@cache
def _shard_folder() -> str:
    return tempfile.mkdtemp(prefix="edc-ray-fuzz-")


def _read_shard(data: bytes) -> Any:
    """A local file under the name of another content: if a bit differs, it is not read."""
    whole, folder = _labels_file("fp16"), _shard_folder()
    Path(folder, f"{NAME}.parquet").write_bytes(data)
    with open_shard(Store(folder), "", _recorded(whole).shards[0]) as file:
        assert file.read() == whole
    return whole


def _npz_of_a_layer() -> bytes:
    keys = ("running_dd_mean", "running_dd_var", "running_patch_mean", "running_patch_var")
    return arrays_to_bytes({key: np.ones(4, np.float32) for key in keys})


def _read_official_statistics(data: bytes) -> Any:
    store = _in_memory("statistics", {f"ConvFeatureHook/{NAME}=conv1/running.npz": data})
    layers = [LayerShape("conv1", "conv", 4, 4)]
    return read_official_statistics(store, NAME, layers, [0], needs_classes=False)


def _read_official_images(data: bytes) -> Any:
    files = {"new000/class000_id000.png": data, "new001/class001_id000.png": encode_image(_images()[1])}
    return open_official_folder(_in_memory(f"images/{NAME}", files)).read([0, 1])


def _shared_file() -> bytes:
    images = {(row // 2, row % 2): encode_image(_images()[row]) for row in range(COUNT)}
    return table_to_bytes(shared_images_table(images, NAMES))


def _read_shared(data: bytes) -> Any:
    store = _in_memory(f"shared/{NAME}", {"data/train-0.parquet": data})
    folder = open_condensed_folder(store.url)
    return folder.read(range(len(folder.files)))


def _read_about(data: bytes) -> Any:
    return export_problems(_in_memory("export", {"edc_ray.json": data, "README.md": b"x"}))


def _found(parse: Callable[[bytes, str], Any]) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        if (found := parse(data, NAME)) is None:
            raise ArtifactError(f"{NAME} is damaged")
        return to_json(found)

    return read


def _table(read: Callable[..., Any]) -> Callable[[bytes], Any]:
    return lambda data: read(table_from_bytes(data, url=NAME), url=NAME)


def _yaml(data: bytes) -> Any:
    return load_yaml(data.decode("utf-8", errors="replace"), source=NAME)


def _decoded(data: bytes) -> Any:
    return decode_rows(MemoryReader([data], [NAME]), np.arange(1), Decoding(3, 8))


READERS: dict[str, Reader] = {
    "record": Reader(lambda: to_json(record()), _found(parse_record)),
    "manifest": Reader(lambda: to_json(_manifest()), _found(parse_manifest)),
    "events": Reader(lambda: json.dumps({"event": "begun"}).encode() + b"\n", _read_events),
    "config": Reader(lambda: to_yaml(load_recipe("digits")).encode(), _yaml),
    "png": Reader(lambda: encode_image(_images()[0]), lambda data: decode_image(data, url=NAME)),
    "jpeg": Reader(lambda: encode_image(_images()[0], "jpeg"), _decoded),
    "arrays": Reader(
        lambda: arrays_to_bytes({"mean": np.ones(4), "count": np.array(3)}),
        lambda data: arrays_from_bytes(data, url=NAME),
    ),
    "images": Reader(_images_file, _table(read_images_table)),
    "labels": Reader(lambda: _labels_file("fp16"), _table(decoded_label_rows)),
    "labels_q4": Reader(lambda: _labels_file("q4"), _table(decoded_label_rows)),
    "labels_top": Reader(lambda: _labels_file("pca8_top1_q5"), _table(decoded_label_rows)),
    "statistics": Reader(_statistics_file, _table(read_statistics_table)),
    "results": Reader(_results_file, _table(read_results_table)),
    "official_labels": Reader(_official_labels, lambda data: batch_from_bytes(data, url=NAME)),
    "network": Reader(_network_file, lambda data: network_from_bytes(data, source=NAME)),
    "weights": Reader(_torch_weights, lambda data: read_state(data, source=NAME)),
    "label_epochs": Reader(lambda: _labels_file("fp16"), _read_epoch),
    "label_epochs_top": Reader(lambda: _labels_file("pca8_top1_q5"), _read_epoch),
    "compress": Reader(lambda: _labels_file("fp16"), _compressed),
    "shard": Reader(lambda: _labels_file("fp16"), _read_shard),
    "official_statistics": Reader(_npz_of_a_layer, _read_official_statistics),
    "official_images": Reader(lambda: encode_image(_images()[0]), _read_official_images),
    "shared": Reader(_shared_file, _read_shared),
    "about": Reader(lambda: b'{"fingerprint": "f", "files": {"README.md": {"bytes": 1}}}', _read_about),
    "tar": Reader(_tar_file, lambda data: images_of_tar(data, url=NAME)),
    "dataset": Reader(_dataset_file, _read_dataset),
}


def with_right_checksum(png: bytes) -> bytes:
    """A PNG whose header may have been changed, with the checksum of what it says now."""
    return png[:29] + zlib.crc32(png[12:29]).to_bytes(4, "big") + png[33:]
