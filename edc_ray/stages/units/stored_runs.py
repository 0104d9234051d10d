"""What a run takes from another one (or from what `edc-ray import` wrote): initial images, labels.

The other run must be of images of the same size and of the same classes, or, for initial images, of more; its
labels, of the same images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edc_ray.artifacts.proof.records import Manifest
from edc_ray.artifacts.storage.layout import RUN_CONFIG, RUN_DATA
from edc_ray.artifacts.storage.limits import MAX_CONFIG_BYTES
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.artifacts.tables.codec import table_to_bytes
from edc_ray.artifacts.tables.schema import LabelRows
from edc_ray.config.load import load_yaml
from edc_ray.config.run import RunConfig
from edc_ray.data.condensed.images import open_stage, read_label_rows, refuse_no_labels
from edc_ray.data.condensed.label_tables import encoded_labels_table
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.errors import ArtifactError, ConfigError, EdcRayError
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.fingerprint import stage_inputs
from edc_ray.stages.units.image_shards import Slot, manifest_hashes, read_images, slot_hashes
from edc_ray.stages.units.plan import Stage


def numbered_names(num_classes: int) -> tuple[str, ...]:
    """Names of classes of which only the number is known."""
    return tuple(map(str, range(num_classes)))


def check_classes(manifest: Manifest, class_names: Sequence[str], url: str) -> None:
    """Refuse an artifact of other classes, or of the same in another order.

    Where the artifact knows classes by number only (official files do), their count decides.

    Raises:
        ArtifactError: naming the first difference.
    """
    stored = tuple(manifest.dataset["class_names"])
    if len(stored) != len(class_names):
        raise _other_classes(url, f"{len(stored)} classes", f"{len(class_names)} classes")
    if stored != tuple(class_names) and stored != numbered_names(len(stored)):
        label = next(k for k, (a, b) in enumerate(zip(stored, class_names, strict=True)) if a != b)
        raise _other_classes(
            url, f"class {label} is '{stored[label]}'", f"class {label} is '{class_names[label]}'"
        )


def labels_in(manifest: Manifest, class_names: Sequence[str], url: str) -> list[int]:
    """For each class its label in an artifact of the same classes, or of more.

    Raises:
        ArtifactError: it is of other classes.
    """
    stored = manifest.dataset["class_names"]
    if len(stored) > len(class_names) and set(class_names) <= set(stored):
        return [stored.index(name) for name in class_names]
    check_classes(manifest, class_names, url)
    return list(range(len(class_names)))


def _other_classes(url: str, found: str, expected: str) -> ArtifactError:
    return ArtifactError(
        f"{url} is of another dataset", found=found, expected=expected, next="give a run of the same dataset"
    )


def check_sources(config: RunConfig, data: OpenedDataset, recover: Stage) -> None:
    """Refuse initial images or labels of another run that cannot be those of this one.

    Raises:
        ArtifactError: other classes, images of another size, too few images or epochs, no stored labels at
            all, or labels of other images than this run will have.
    """
    if config.init.source is not None:
        _check_images(config.init.source, config, data)
    if config.relabel.source is not None:
        _check_labels(config.relabel.source, config, data, recover)


def stored_hashes(url: str, slots: Sequence[Slot], class_names: Sequence[str]) -> list[str]:
    """Pixel hashes of some condensed images of another run.

    Args:
        url: of the run.
        slots: of the images, by labels of this run.
        class_names: of this run, by label.

    Raises:
        ArtifactError: one of them is not there.
    """
    store, _, manifest = open_stage(url, None, "recover")
    hashes, labels = manifest_hashes(manifest), labels_in(manifest, class_names, store.url)
    theirs = [(labels[label], ipc_id) for label, ipc_id in slots]
    if missing := [slot for slot in theirs if slot not in hashes]:
        raise ArtifactError(
            f"{store.url} holds too few images",
            found=f"no image of class {missing[0][0]}, ipc id {missing[0][1]}",
            expected=f"{len(slots)} images",
            next="lower ipc",
        )
    return [hashes[slot] for slot in theirs]


def stored_images(url: str, slots: Sequence[Slot], class_names: Sequence[str]) -> np.ndarray:
    """Some condensed images of another run, uint8 [n, C, S, S], in the order asked for.

    Arguments as those of `stored_hashes`.
    """
    store, folder, manifest = open_stage(url, None, "recover")
    labels = labels_in(manifest, class_names, store.url)
    slots = [(labels[label], ipc_id) for label, ipc_id in slots]
    rows = read_images(store, folder, manifest, set(slots))
    place = {
        slot: row for row, slot in enumerate(zip(rows.labels.tolist(), rows.ipc_ids.tolist(), strict=True))
    }
    return rows.images[[place[slot] for slot in slots]]


def stored_labels_digest(context: StageContext, epochs: range) -> Any:
    """Hashes of the files that hold the labels of some epochs of `relabel.source`.

    Raises:
        ArtifactError: they are labels of other images than this run has.
    """
    url = _labels_url(context)
    store, _, images = open_stage(url, None, "recover")
    _refuse_other_images(store.url, manifest_hashes(images), slot_hashes(context, "recover"))
    _, _, manifest = open_stage(url, None, "relabel")
    wanted = set(epochs)
    records = [record for record in manifest.records if wanted & set(_range_of(record.meta))]
    return [shard.sha256 for record in records for shard in record.shards]


def stored_labels(context: StageContext, epochs: range) -> tuple[bytes, int]:
    """A table of the labels of some epochs of `relabel.source`, and its number of rows."""
    store, folder, manifest = open_stage(_labels_url(context), None, "relabel")
    wanted, parts = set(epochs), []
    for record in manifest.records:
        if wanted & set(_range_of(record.meta)):
            rows = read_label_rows(store, folder, record)
            parts.append(rows.take(np.flatnonzero(np.isin(rows.epoch, list(epochs)))))
    joined = LabelRows.concatenate(parts)
    table = encoded_labels_table(
        joined, context.data.train.class_names, dataset=context.config.dataset.name,
        codec=context.config.relabel.codec,
    )  # fmt: skip
    return table_to_bytes(table, rows_per_group=len(joined) // len(epochs)), len(joined)


def _check_images(url: str, config: RunConfig, data: OpenedDataset) -> None:
    store, names, slots = open_store(url, writable=False), data.train.class_names, _slots(config, data)
    stored_hashes(url, slots, names)
    shape = stored_images(url, slots[:1], names).shape[1:]
    wanted = (data.train.channels, data.train.image_size, data.train.image_size)
    if shape != wanted:
        raise ArtifactError(
            f"{store.url} holds images of another size",
            found="x".join(map(str, shape)),
            expected="x".join(map(str, wanted)),
            next="set dataset.image_size to that of the images",
        )


def _check_labels(url: str, config: RunConfig, data: OpenedDataset, recover: Stage) -> None:
    store, folder, manifest = open_stage(url, None, "relabel")
    check_classes(manifest, data.train.class_names, store.url)
    refuse_no_labels(store, manifest)
    if (stored := len(_epochs_of(manifest))) < config.relabel.epochs:
        raise ArtifactError(
            f"{store.url} holds labels of fewer epochs than are asked for",
            found=f"{stored} epochs",
            expected=f"relabel.epochs = {config.relabel.epochs}",
            next=f"set relabel.epochs={stored}, or unset relabel.source to label anew",
        )
    _check_labelled_images(url, config, data, recover)
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


def _check_labelled_images(url: str, config: RunConfig, data: OpenedDataset, recover: Stage) -> None:
    """Compares the labelled images with those that this run takes, or how both are made."""
    store, _, images = open_stage(url, None, "recover")
    theirs, slots = manifest_hashes(images), _slots(config, data)
    if config.init.source is not None and not config.recover.enabled:
        ours = dict(zip(slots, stored_hashes(config.init.source, slots, data.train.class_names), strict=True))
        _refuse_other_images(store.url, theirs, ours)
    elif theirs.keys() != set(slots):
        raise _other_images(store.url, f"{len(theirs)} images", f"the {len(slots)} images of this run")
    elif (difference := _difference_in_the_making(store, config, data, recover)) is not None:
        raise _other_images(store.url, difference, "images that this run would make just so")


def _difference_in_the_making(
    store: Store, config: RunConfig, data: OpenedDataset, recover: Stage
) -> str | None:
    """What a run's images are made of otherwise than those of a config."""
    if not (store.exists(RUN_CONFIG) and store.exists(RUN_DATA)):
        return f"images of which no {RUN_CONFIG} says how they were made"
    if _trained_on(store) != data.train.content_hash:
        return "images made from other training images"
    other = stored_config(store)
    theirs, ours = (stage_inputs(one, recover) for one in (other, config))
    if config.device == "auto":
        ours["device"] = theirs["device"]
    if config.precision == "auto":
        ours["precision"] = theirs["precision"]
    names = [name for name in sorted(theirs.keys() | ours.keys()) if theirs.get(name) != ours.get(name)]
    return f"images made with another {', '.join(names)}" if names else None


def stored_config(store: Store) -> RunConfig:
    """What a run's run.yaml says.

    Raises:
        ArtifactError: it is missing or too large. ConfigError: it is no config; names the file.
    """
    source = store.join(RUN_CONFIG)
    text = store.read(RUN_CONFIG, limit=MAX_CONFIG_BYTES)
    try:
        return load_yaml(text.decode(), source=source, stored=True)
    except (EdcRayError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{source} cannot be read by this edc-ray", found=str(error), next="give another run.name"
        ) from error


def _trained_on(store: Store) -> str:
    """Content hash of a run's training images."""
    text = store.read(RUN_DATA, limit=MAX_CONFIG_BYTES)
    try:
        return str(json.loads(text)["train"]["sha256"])
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise ArtifactError(f"{store.join(RUN_DATA)} is damaged", found=type(error).__name__) from error


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


def _slots(config: RunConfig, data: OpenedDataset) -> list[Slot]:
    return [(label, ipc_id) for label in range(len(data.train.class_names)) for ipc_id in range(config.ipc)]


def _labels_url(context: StageContext) -> str:
    url = context.config.relabel.source
    assert url is not None
    return url


def _epochs_of(manifest: Manifest) -> list[int]:
    return [epoch for record in manifest.records for epoch in _range_of(record.meta)]


def _range_of(meta: dict[str, Any]) -> range:
    first, last = meta["epochs"]
    return range(first, last + 1)
