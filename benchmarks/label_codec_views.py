"""Labels of real views for bench_label_codecs.py: a network's logits, and the bytes of its views."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor

from edc_ray.artifacts.tables.codec import table_to_bytes
from edc_ray.artifacts.tables.schema import LabelRows, build_labels_table
from edc_ray.core.views.views import EpochViews, ViewSettings, draw_epoch_views, render_views
from edc_ray.models.pretrained import read_pretrained, start_from
from edc_ray.models.registry import build_network

SIDE, EPOCHS, GROUP, CLASSES = 224, 18, 50, 1000
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3
SETTINGS = ViewSettings(mix="cutmix", mix_group=GROUP)


def network_logits(images: str, cache: Path, names: list[str]) -> list[np.ndarray]:
    """Mean logits of the networks for EPOCHS views of every image, mixed with others of its half.

    Args:
        images: Parquet file with the columns image and label.
        cache: npz file; read if it holds the logits of these networks, else written.
        names: of networks with packaged weights.

    Returns:
        float16 [N, 1000] of the even images, and of the odd ones.
    """
    if cache.exists():
        with np.load(cache, allow_pickle=False) as stored:
            if stored["networks"].tolist() == names:
                return [stored["even"], stored["odd"]]
    pixels, labels = _read(images)
    networks = [_pretrained(name) for name in names]
    halves = []
    for first in (0, 1):
        chosen = np.arange(first, len(labels), 2)
        slots = [(int(labels[image]), int(image)) for image in chosen]
        parts = []
        for epoch in range(EPOCHS):
            views = draw_epoch_views(0, epoch, slots, SIDE, SETTINGS)
            for start in range(0, len(views), GROUP):
                rows = np.arange(start, min(start + GROUP, len(views)))
                batch = render_views(pixels[chosen], views, rows, mean=MEAN, std=STD)
                with torch.no_grad():
                    parts.append(torch.stack([one(batch) for one in networks]).mean(0).numpy())
        halves.append(np.concatenate(parts).astype(np.float16))
    np.savez(cache, even=halves[0], odd=halves[1], networks=np.array(names))
    return halves


def view_bytes(ipc: int = 10, epochs: int = 2) -> dict[str, float]:
    """Bytes that the parameters of a view take in a Parquet file, by column, at 1,000 classes."""
    slots = [(label, ipc_id) for label in range(CLASSES) for ipc_id in range(ipc)]
    labels, ipc_ids = (np.array(values) for values in zip(*slots, strict=True))
    parts = []
    for epoch in range(epochs):
        views = draw_epoch_views(0, epoch, slots, SIDE, ViewSettings(mix="cutmix"))
        parts.append(_rows(epoch, labels, ipc_ids, views))
    rows = LabelRows.concatenate(parts)
    table = build_labels_table(rows, [str(label) for label in range(CLASSES)]).drop_columns("logits")
    facts = pq.ParquetFile(pa.BufferReader(table_to_bytes(table, rows_per_group=1 << 14))).metadata
    taken: dict[str, float] = {}
    for group in range(facts.num_row_groups):
        for column in range(facts.num_columns):
            chunk = facts.row_group(group).column(column)
            name = chunk.path_in_schema
            taken[name] = taken.get(name, 0) + chunk.total_compressed_size / table.num_rows
    return taken


def _rows(epoch: int, labels: np.ndarray, ipc_ids: np.ndarray, views: EpochViews) -> LabelRows:
    image, partner, crops = views.image, views.image[views.partner], views.crops
    return LabelRows(
        epoch=np.full(len(views), epoch), label=labels[image], ipc_id=ipc_ids[image],
        crop_top=crops.top.numpy(), crop_left=crops.left.numpy(),
        crop_height=crops.height.numpy(), crop_width=crops.width.numpy(), flip=crops.flip.numpy(),
        mix=np.full(len(views), views.mix), mix_group=views.group,
        partner_label=labels[partner], partner_ipc_id=ipc_ids[partner],
        box_row0=views.box[:, 0], box_row1=views.box[:, 1],
        box_col0=views.box[:, 2], box_col1=views.box[:, 3], lam=views.lam,
        logits=np.zeros((len(views), CLASSES), np.float16),
    )  # fmt: skip


def _read(url: str) -> tuple[Tensor, np.ndarray]:
    """uint8 [N, 3, SIDE, SIDE], the middle of each image, and labels [N]."""
    table = pq.read_table(url)
    pixels = []
    for data in table.column("image").combine_chunks().field("bytes").to_pylist():
        image = Image.open(io.BytesIO(data)).convert("RGB")
        scale = SIDE / min(image.size)
        size = max(SIDE, round(image.width * scale)), max(SIDE, round(image.height * scale))
        image = image.resize(size, Image.Resampling.BILINEAR)
        left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
        pixels.append(np.asarray(image.crop((left, top, left + SIDE, top + SIDE))).transpose(2, 0, 1))
    return torch.from_numpy(np.stack(pixels)), np.array(table.column("label").to_pylist())


def _pretrained(name: str) -> torch.nn.Module:
    network = build_network(name, num_classes=CLASSES, image_size=SIDE, channels=3, seed=0)
    names = [str(label) for label in range(CLASSES)]
    start_from(
        network, read_pretrained(name, "package", None, "."), name=name, image_size=SIDE, channels=3,
        class_names=names, head_classes=None, may_train_head=False,
    )  # fmt: skip
    return network.eval()
