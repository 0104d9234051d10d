"""relabel: soft labels of every epoch's augmented and mixed views. One unit is a range of epochs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from edc_ray.artifacts.proof.records import Record
from edc_ray.artifacts.storage.layout import epochs_key, table_name
from edc_ray.artifacts.storage.store import Store
from edc_ray.artifacts.tables.codec import table_to_bytes
from edc_ray.artifacts.tables.schema import LabelRows
from edc_ray.config.run import RunConfig
from edc_ray.core.labels.codec import Fp16Codec
from edc_ray.core.labels.soft_labels import ensemble_logits
from edc_ray.core.labels.specification import label_codec
from edc_ray.core.views.settings import RelabelSettings
from edc_ray.core.views.views import EpochViews, ViewSettings, draw_epoch_views, render_views
from edc_ray.data.condensed.images import images_digest
from edc_ray.data.condensed.label_rows import encoded_labels_table, rows_of_views
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.digests import digest_of
from edc_ray.errors import ConfigError, NumericalError
from edc_ray.kernels.cpu.views import view_kernel_for
from edc_ray.stages.recover import stage as recover
from edc_ray.stages.relabel.stored_labels import check_stored_labels, stored_labels, stored_labels_digest
from edc_ray.stages.squeeze import stage as squeeze
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.image_shards import read_stage_images, slot_hashes, slots_of
from edc_ray.stages.units.plan import Stage, UnitOutput, WorkUnit, blocks, span
from edc_ray.stages.units.training import mean_and_std


def plan(context: StageContext) -> list[WorkUnit]:
    """Ranges of epochs; more epochs add units. None if students are labelled online."""
    section = context.config.relabel
    if section.labels == "online":
        return []
    return [
        WorkUnit(
            "relabel", epochs_key(first, end - 1), span("epochs", first, end), {"first": first, "end": end}
        )
        for first, end in blocks(section.epochs, section.epochs_per_unit)
    ]


def check(config: RunConfig, data: OpenedDataset, store: Store) -> None:
    """See `Stage.check`: the codec, the bands of patch shuffling, and `relabel.source`."""
    label_codec(config.relabel.codec)
    image_size = data.train.image_size
    if config.relabel.patch_shuffle > image_size:
        raise ConfigError(
            "relabel.patch_shuffle asks for more bands than an image has pixels",
            found=f"{config.relabel.patch_shuffle} bands",
            expected=f"at most {image_size}",
            next="set relabel.patch_shuffle to init.factor, so that the cells of a mosaic are shuffled",
        )
    if config.relabel.source is not None:
        check_stored_labels(config.relabel.source, config, data)


def inputs(context: StageContext, unit: WorkUnit) -> Any:
    pixels, url = sorted(slot_hashes(context, "recover").items()), context.config.relabel.source
    if url is not None:
        epochs = range(unit.work["first"], unit.work["end"])
        return digest_of([pixels, stored_labels_digest(context, url, epochs)])
    return digest_of([pixels, context.observer_digests(context.config.observers_of("relabel"))])


def label_epochs(context: StageContext, unit: WorkUnit) -> UnitOutput:
    """Draws, renders and labels the views of some epochs, or takes labels from relabel.source."""
    name, epochs = table_name(unit.key), range(unit.work["first"], unit.work["end"])
    meta = {"epochs": [epochs.start, epochs.stop - 1]}
    if (url := context.config.relabel.source) is not None:
        return UnitOutput({name: stored_labels(context, url, epochs)}, meta)
    rows = read_stage_images(context, "recover")
    images, slots = torch.from_numpy(rows.images).to(context.device), slots_of(rows)
    parts = []
    for epoch in epochs:
        views = draw_epoch_views(context.config.seed, epoch, slots, images.shape[-1], view_settings(context))
        logits = label_views(context, images, views)
        parts.append(rows_of_views(epoch, views, rows.labels, rows.ipc_ids, logits))
    joined, codec = LabelRows.concatenate(parts), context.config.relabel.codec
    table = encoded_labels_table(joined, rows.class_names, dataset=context.config.dataset.name, codec=codec)
    shard = table_to_bytes(table, rows_per_group=len(rows.labels)), len(joined)
    facts = {"kernels": context.kernels_name(), **context.at_once.facts("labels and scores")}
    return UnitOutput({name: shard}, meta | facts)


def view_settings(context: StageContext) -> ViewSettings:
    own = context.config.relabel.model_dump(include=set(RelabelSettings.model_fields))
    return ViewSettings(**own, flip_probability=context.flip_probability)


def rendered(context: StageContext, images: Tensor, views: EpochViews, rows: np.ndarray) -> Tensor:
    """Views as observers label them and students see them, from uint8 images."""
    mean, std = mean_and_std(context)
    return render_views(images, views, rows, mean=mean, std=std, kernel=view_kernel_for(context.device))


@torch.no_grad()
def label_views(context: StageContext, images: Tensor, views: EpochViews) -> np.ndarray:
    """Soft labels of the views of uint8 images: mean logits of the observers, float16 [N, K]."""
    section = context.config.relabel
    observers = [context.observer_forward(name) for name in context.config.observers_of("relabel")]
    # Norm-balanced labels depend on the images of a forward, so each forward is one mixing group.
    at_once = section.mix_group if section.label_norm == "frobenius" else section.batch_size
    logits = []
    for first, end in blocks(len(views), at_once):
        batch = rendered(context, images, views, np.arange(first, end))
        logits.append(ensemble_logits([observer(batch) for observer in observers], section.label_norm))
    values = torch.cat(logits).cpu().numpy()
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
        raise NumericalError(
            "relabel: a soft label is NaN or Inf",
            found=f"view {row} of image {int(views.image[row])}",
            next="look for a damaged observer with edc-ray verify, or train the observers again",
        )
    return Fp16Codec().encode(values).columns["logits"]


def passes(config: RunConfig, data: OpenedDataset) -> dict[str, int]:
    if config.relabel.labels == "online" or config.relabel.source is not None:
        return {}
    images = config.ipc * len(data.train.class_names)
    return dict.fromkeys(config.observers_of("relabel"), config.relabel.epochs * images)


def images_of(context: StageContext, unit: WorkUnit) -> int:
    """Labelled views."""
    epochs = unit.work["end"] - unit.work["first"]
    return epochs * context.config.ipc * len(context.data.train.class_names)


def finish(context: StageContext, records: list[Record]) -> tuple[list[Record], dict[str, Any]]:
    mean, std = mean_and_std(context)
    section = context.config.relabel
    size = sum(shard.bytes for record in records for shard in record.shards)
    return records, {
        "mean": list(mean), "std": list(std), "codec": section.codec, "bytes": size,
        "epochs": section.epochs if records else 0,
        "labels": context.config.relabel.labels,
        "images": images_digest(context.manifest("recover")),
    }  # fmt: skip


STAGE = Stage(
    name="relabel",
    version=2,
    needs=(squeeze.STAGE, recover.STAGE),
    check=check,
    growing=frozenset({"relabel.epochs"}),
    sees_ipc=lambda config: True,
    plan=plan,
    inputs=inputs,
    run_unit=label_epochs,
    finish=finish,
    passes=passes,
    images=images_of,
)
