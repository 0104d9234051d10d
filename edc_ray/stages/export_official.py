"""A run's images, labels and statistics as the official programs or RDED keep them: `edc-ray export`.

<dest>/images/new000/class000_id000.png    (RDED: 00000/class00000_id00000.png)
<dest>/labels/epoch_0/batch_0.tar
<dest>/statistics/ConvFeatureHook/...
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from edc_ray.artifacts.codec import ImageFormat, table_from_bytes
from edc_ray.artifacts.layout import RUN_CONFIG, STAGE_FOLDERS, join_path
from edc_ray.artifacts.manifest import read_manifest, read_shard
from edc_ray.artifacts.official_statistics import official_network_names, write_official_statistics
from edc_ray.artifacts.records import Manifest, Record
from edc_ray.artifacts.schema import IMAGES_SCHEMA, read_statistics_table
from edc_ray.artifacts.store import Store, open_store
from edc_ray.artifacts.table_checks import check_table
from edc_ray.config.run import RunConfig, StageName
from edc_ray.data.condensed import open_stage, read_condensed_images, read_label_rows, refuse_no_labels
from edc_ray.data.official_images import Slot, Style, official_image_path, write_official_images
from edc_ray.data.official_labels import batch_to_bytes, batches_of_epoch
from edc_ray.data.undecoded import NUM_THREADS
from edc_ray.errors import ArtifactError, ConfigError
from edc_ray.models.official_paths import official_path
from edc_ray.models.registry import build_network
from edc_ray.stages.collect_statistics import BUFFERS_ONLY
from edc_ray.stages.image_shards import manifest_hashes
from edc_ray.stages.statistics_source import refuse_shared_name
from edc_ray.stages.stored_runs import stored_config

Part = Literal["images", "labels", "statistics"]
PARTS: tuple[Part, ...] = get_args(Part)
STYLES: tuple[Style, ...] = get_args(Style)
_STAGES: dict[Part, StageName] = {"images": "recover", "labels": "relabel", "statistics": "statistics"}
_LARGEST_SMALL_IMAGE = 64  # the CIFAR and Tiny-ImageNet programs save one item less in a label file


@dataclass(frozen=True)
class ExportOptions:
    """How a run is exported.

    Args:
        style: "official", or "rded": images only.
        parts: what; None is everything that the run has results of.
        image_format: encode images anew; None keeps their bytes, and so the pixels that were labelled.
        batch_size: of the official student; None is the size of the mixing groups.
        class_patch_swapped: exchange the keys of patch mean and variance in class files, as the official
            writer does.
        network_names: name layers ResNet_ResNet18=..., as the CIFAR programs look them up, and not
            ResNet=..., as those of Tiny-ImageNet do. Says nothing of ImageNet's networks.
    """

    style: Style = "official"
    parts: Sequence[Part] | None = None
    image_format: ImageFormat | None = None
    batch_size: int | None = None
    class_patch_swapped: bool = True
    network_names: bool = True


def export_run(url: str, dest: str, options: ExportOptions) -> list[str]:
    """Write a run's results in another layout.

    Args:
        url: of the run, or of what was imported.
        dest: URL of the folder to write.
        options: how.

    Returns:
        A sentence for each part.

    Raises:
        ConfigError: a part that the style does not have, or the folder is not empty.
        ArtifactError: the run lacks a part, or its labels are mixed in other groups than batches.
    """
    source = open_store(url, writable=False)
    parts: list[Part] = list(options.parts or ()) or [part for part in PARTS if _has_results(source, part)]
    if not parts:
        open_stage(url, None, "recover")  # says what is missing
    if options.style == "rded":
        if options.parts and set(options.parts) != {"images"}:
            raise ConfigError("the RDED layout holds images only", found=", ".join(options.parts))
        parts = ["images"]
    target = open_store(dest)
    for part in parts:
        _refuse_no_results(url, part)
        if held := target.list(part):
            raise ConfigError(
                f"{target.join(part)} is not empty", found=held[0], next="give another folder to write"
            )
    told = []
    for part in parts:
        written = {"images": _images, "labels": _labels, "statistics": _statistics}[part]
        told.append(f"{target.join(part)}: {written(url, open_store(target.join(part)), options)}")
    return told


def _has_results(source: Store, part: Part) -> bool:
    manifest = read_manifest(source, STAGE_FOLDERS[_STAGES[part]])
    return manifest is not None and bool(manifest.records) and BUFFERS_ONLY not in manifest.meta


def _refuse_no_results(url: str, part: Part) -> None:
    """A stage may be complete with nothing in it, because no later stage needed it."""
    store, _, manifest = open_stage(url, None, _STAGES[part])
    if part == "labels":
        refuse_no_labels(store, manifest)
    if not manifest.records:
        raise ArtifactError(
            f"{store.url} holds no {part}",
            found=f"stage {_STAGES[part]} is complete and made none, as with recover.enabled=false",
            next=f"leave {part} out of --only",
        )
    if BUFFERS_ONLY in manifest.meta:
        raise ArtifactError(
            f"{store.url} holds no {part} of the kind that the official programs keep",
            found="running estimates of BatchNorms, which are in the observers' weights",
            next=f"leave {part} out of --only, or export a run whose recover.layers have conv",
        )


def _images(url: str, target: Store, options: ExportOptions) -> str:
    store, folder, manifest = open_stage(url, None, "recover")
    count = 0
    for record in manifest.records:
        images = _encoded_images(store, folder, record)
        count += len(images)
        write_official_images(target, images, options.style, format=options.image_format)
    return f"{count} images"


def _encoded_images(store: Store, folder: str, record: Record) -> dict[Slot, bytes]:
    """Images of a unit as they are stored."""
    images: dict[Slot, bytes] = {}
    for shard in record.shards:
        location = store.join(join_path(folder, shard.path))
        table = table_from_bytes(read_shard(store, folder, shard), url=location)
        check_table(table, IMAGES_SCHEMA.names, url=location)
        encoded = table.column("image").combine_chunks().field("bytes").to_pylist()
        slots = zip(table.column("label").to_pylist(), table.column("ipc_id").to_pylist(), strict=True)
        images |= dict(zip(slots, encoded, strict=True))
    return images


def _labels(url: str, target: Store, options: ExportOptions) -> str:
    store, folder, manifest = open_stage(url, None, "relabel")
    place, image_size = _places(url)
    layout = "small" if image_size <= _LARGEST_SMALL_IMAGE else "imagenet"
    batch_size, epochs = options.batch_size, 0
    for record in manifest.records:
        rows = read_label_rows(store, folder, record)
        for epoch in np.unique(rows.epoch).tolist():
            of_epoch = rows.take(np.flatnonzero(rows.epoch == epoch))
            batches = batches_of_epoch(of_epoch, place, image_size, batch_size=batch_size)
            batch_size = batch_size or len(batches[0].index)
            files = [
                (f"epoch_{epoch}/batch_{number}.tar", batch_to_bytes(batch, layout=layout))
                for number, batch in enumerate(batches)
            ]
            with ThreadPoolExecutor(NUM_THREADS) as pool:
                list(pool.map(lambda file: target.publish(*file), files))
            epochs += 1
    return f"{epochs} epochs in batches of {batch_size}: the official student needs this batch size"


def _places(url: str) -> tuple[dict[Slot, int], int]:
    """Place of each image among all exported files, sorted as the official dataset does; and their side."""
    store, folder, manifest = open_stage(url, None, "recover")
    slots = sorted(manifest_hashes(manifest), key=lambda slot: official_image_path(slot, "official", "png"))
    one = Manifest("recover", "", "", {}, manifest.records[:1])
    side = read_condensed_images(store, folder, one).images.shape[-1]
    return {slot: place for place, slot in enumerate(slots)}, side


def _statistics(url: str, target: Store, options: ExportOptions) -> str:
    store, folder, manifest = open_stage(url, None, "statistics")
    names, count = dict[str, str](), 0
    for record in manifest.records:
        observer = record.meta["observer"]
        network = record.meta.get("network") or _network_name(store, observer, options.network_names)
        refuse_shared_name(names, observer, network)
    for record in manifest.records:
        (shard,) = record.shards
        location = store.join(join_path(folder, shard.path))
        rows = read_statistics_table(
            table_from_bytes(read_shard(store, folder, shard), url=location), url=location
        )
        network = next(name for name, observer in names.items() if observer == record.meta["observer"])
        theirs = {(official_path(names[network], key[0]), *key[1:]): row for key, row in rows.items()}
        count += write_official_statistics(
            target, network, theirs, class_patch_swapped=options.class_patch_swapped
        )
    return f"{count} files of {', '.join(names)}"


def _network_name(store: Store, observer: str, with_network: bool) -> str:
    spec = _config_of(store).dataset
    assert spec.num_classes is not None
    assert spec.image_size is not None
    network = build_network(
        observer,
        num_classes=spec.num_classes,
        image_size=spec.image_size,
        channels=spec.channels or 3,
        seed=0,
    )
    names = official_network_names(observer, type(network).__name__)
    return names[0] if with_network else names[-1]


def _config_of(store: Store) -> RunConfig:
    if not store.exists(RUN_CONFIG):
        raise ArtifactError(
            f"{store.url} does not say which networks its statistics are of",
            found=f"no {RUN_CONFIG}",
            next="give the URL of the run, not of one of its folders",
        )
    return stored_config(store)
