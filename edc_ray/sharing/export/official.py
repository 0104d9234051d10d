"""A run's images, labels and statistics in the layout of the official programs or RDED: `edc-ray export`.

<dest>/images/new000/class000_id000.png    (RDED: 00000/class00000_id00000.png)
<dest>/labels/epoch_0/batch_0.tar
<dest>/statistics/ConvFeatureHook/...
"""

from __future__ import annotations

import numpy as np

from edc_ray.artifacts.proof.manifest import read_shard
from edc_ray.artifacts.proof.records import Manifest
from edc_ray.artifacts.storage.layout import RUN_CONFIG, join_path
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.artifacts.tables.codec import table_from_bytes
from edc_ray.artifacts.tables.official_statistics import official_network_names, write_official_statistics
from edc_ray.artifacts.tables.schema import read_statistics_table
from edc_ray.data.condensed.images import open_stage, read_condensed_images, read_label_rows
from edc_ray.digests import digest_of
from edc_ray.errors import ArtifactError
from edc_ray.models.official_paths import official_path
from edc_ray.models.registry import build_network
from edc_ray.sharing.export.images import encoded_images, images_to_export
from edc_ray.sharing.export.options import ExportOptions, Part
from edc_ray.sharing.export.parts import STAGE_OF, parts_to_export, records_of_epochs, refuse_no_results
from edc_ray.sharing.export.target import ExportTarget
from edc_ray.sharing.formats.official_images import Slot, Style, image_suffix, official_image_path
from edc_ray.sharing.formats.official_labels import batch_to_bytes, batches_of_epoch
from edc_ray.stages.statistics.source import refuse_shared_name
from edc_ray.stages.units.image_shards import manifest_hashes
from edc_ray.stages.units.stored_runs import stored_config

_LARGEST_SMALL_IMAGE = 64  # the CIFAR and Tiny-ImageNet programs save one item less in each label file


def export_official(url: str | Store, dest: str, options: ExportOptions) -> list[str]:
    """Write a run's results in the official layout, or its images in that of RDED; see `export_run`."""
    parts = parts_to_export(url, options)
    for part in parts:  # refused before anything is written
        refuse_no_results(url, part)
    if "images" in parts:
        images_to_export(url, options.ipc)
    if "labels" in parts:
        store, _, manifest = open_stage(url, None, "relabel")
        records_of_epochs(store.url, manifest, options.epochs)
    fingerprint = digest_of([_fingerprint(url, part, options) for part in parts])
    target = ExportTarget(open_store(dest), fingerprint, parts)
    target.begin()
    told = []
    for part in parts:
        written = {"images": _images, "labels": _labels, "statistics": _statistics}[part]
        told.append(f"{target.store.join(part)}: {written(url, target, options)}")
    target.finish()
    return told


def _fingerprint(url: str | Store, part: Part, options: ExportOptions) -> str:
    _, _, manifest = open_stage(url, None, STAGE_OF[part])
    how = {
        "images": [options.format, options.ipc, options.image_format],
        "labels": [options.epochs, options.batch_size],
        "statistics": [options.class_patch_swapped, options.network_names],
    }[part]
    return digest_of([part, how, [shard.sha256 for shard in manifest.shards]])


def _images(url: str | Store, target: ExportTarget, options: ExportOptions) -> str:
    source = images_to_export(url, options.ipc)
    style: Style = "rded" if options.format == "rded" else "official"
    for images in encoded_images(source, options.image_format):
        target.put_all(
            (join_path("images", official_image_path(slot, style, image_suffix(data))), data)
            for slot, data in images.items()
        )
    return f"{len(source.hashes)} images"


def _labels(url: str | Store, target: ExportTarget, options: ExportOptions) -> str:
    store, folder, manifest = open_stage(url, None, "relabel")
    place, image_size = _places(url)
    layout = "small" if image_size <= _LARGEST_SMALL_IMAGE else "imagenet"
    batch_size, epochs = options.batch_size, 0
    for record in records_of_epochs(store.url, manifest, options.epochs):
        rows = read_label_rows(store, folder, record)
        for epoch in np.unique(rows.epoch[rows.epoch < (options.epochs or np.inf)]).tolist():
            of_epoch = rows.take(np.flatnonzero(rows.epoch == epoch))
            batches = batches_of_epoch(of_epoch, place, image_size, batch_size=batch_size)
            batch_size = batch_size or len(batches[0].index)
            target.put_all(
                (f"labels/epoch_{epoch}/batch_{number}.tar", batch_to_bytes(batch, layout=layout))
                for number, batch in enumerate(batches)
            )
            epochs += 1
    return f"{epochs} epochs in batches of {batch_size}: the official student needs this batch size"


def _places(url: str | Store) -> tuple[dict[Slot, int], int]:
    """Place of each image among all exported files in the official dataset's order, and the images' side."""
    store, folder, manifest = open_stage(url, None, "recover")
    slots = sorted(manifest_hashes(manifest), key=lambda slot: official_image_path(slot, "official", ""))
    one = Manifest("recover", "", "", {}, manifest.records[:1])
    side = read_condensed_images(store, folder, one).images.shape[-1]
    return {slot: place for place, slot in enumerate(slots)}, side


def _statistics(url: str | Store, target: ExportTarget, options: ExportOptions) -> str:
    store, folder, manifest = open_stage(url, None, "statistics")
    names, count = dict[str, str](), 0
    for record in manifest.records:
        observer = record.meta["observer"]
        network = record.meta.get("network") or _network_name(store, observer, options.network_names)
        refuse_shared_name(names, observer, network)
    for (network, observer), record in zip(names.items(), manifest.records, strict=True):
        (shard,) = record.shards
        location = store.join(join_path(folder, shard.path))
        rows = read_statistics_table(
            table_from_bytes(read_shard(store, folder, shard), url=location), url=location
        )
        theirs = {(official_path(observer, key[0]), *key[1:]): row for key, row in rows.items()}
        count += write_official_statistics(
            open_store(target.store.join("statistics")),
            network,
            theirs,
            class_patch_swapped=options.class_patch_swapped,
        )
    return f"{count} files of {', '.join(names)}"


def _network_name(store: Store, observer: str, with_network: bool) -> str:
    if not store.exists(RUN_CONFIG):
        raise ArtifactError(
            f"{store.url} does not name the networks of its statistics",
            found=f"no {RUN_CONFIG}",
            next="give the URL of the run, not of one of its folders",
        )
    spec = stored_config(store).dataset
    assert spec.num_classes is not None
    assert spec.image_size is not None
    channels = spec.channels or 3
    network = build_network(
        observer, num_classes=spec.num_classes, image_size=spec.image_size, channels=channels, seed=0
    )
    names = official_network_names(observer, type(network).__name__)
    return names[0] if with_network else names[-1]
