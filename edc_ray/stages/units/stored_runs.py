"""What a run takes from another run, or from what `edc-ray import` wrote: its config and images.

The other run must have images of the same size, and the same classes or more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edc_ray.artifacts.proof.records import Manifest
from edc_ray.artifacts.storage.layout import RUN_CONFIG
from edc_ray.artifacts.storage.limits import MAX_CONFIG_BYTES
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.config.load import load_yaml
from edc_ray.config.run import RunConfig
from edc_ray.data.condensed.images import open_stage
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.errors import ArtifactError, ConfigError, EdcRayError
from edc_ray.stages.units.image_shards import Slot, images_at, manifest_hashes, read_images


def numbered_names(num_classes: int) -> tuple[str, ...]:
    """Names of classes of which only the number is known."""
    return tuple(map(str, range(num_classes)))


def check_classes(manifest: Manifest, class_names: Sequence[str], url: str) -> None:
    """Refuse an artifact of other classes or in another order; of numbered classes only the count matters."""
    stored = tuple(manifest.dataset["class_names"])
    if len(stored) != len(class_names):
        found, expected = f"{len(stored)} classes", f"{len(class_names)} classes"
    elif stored in (tuple(class_names), numbered_names(len(stored))):
        return
    else:
        label = next(k for k, (a, b) in enumerate(zip(stored, class_names, strict=True)) if a != b)
        found, expected = (f"class {label} is '{names[label]}'" for names in (stored, class_names))
    raise ArtifactError(
        f"{url} is of another dataset", found=found, expected=expected, next="give a run of the same dataset"
    )


def labels_in(manifest: Manifest, class_names: Sequence[str], url: str) -> list[int]:
    """The label of each class in an artifact that has the same classes or more; else an ArtifactError."""
    stored = manifest.dataset["class_names"]
    if len(stored) > len(class_names) and set(class_names) <= set(stored):
        return [stored.index(name) for name in class_names]
    check_classes(manifest, class_names, url)
    return list(range(len(class_names)))


def stored_hashes(url: str, slots: Sequence[Slot], class_names: Sequence[str]) -> list[str]:
    """Pixel hashes of images of another run, by slots of this run; an ArtifactError if one is missing."""
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
    """Some condensed images of another run, uint8 [n, C, S, S]; arguments as those of `stored_hashes`."""
    store, folder, manifest = open_stage(url, None, "recover")
    labels = labels_in(manifest, class_names, store.url)
    slots = [(labels[label], ipc_id) for label, ipc_id in slots]
    return images_at(read_images(store, folder, manifest, set(slots)), slots)


def check_stored_images(url: str, config: RunConfig, data: OpenedDataset) -> None:
    """Refuse a run of other classes, of another image size or of too few images as `init.source`."""
    store, names, slots = open_store(url, writable=False), data.train.class_names, slots_of_run(config, data)
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


def stored_config(store: Store) -> RunConfig:
    """What a run's run.yaml says; an ArtifactError or a ConfigError if it cannot be read."""
    source = store.join(RUN_CONFIG)
    text = store.read(RUN_CONFIG, limit=MAX_CONFIG_BYTES)
    try:
        return load_yaml(text.decode(), source=source, stored=True)
    except (EdcRayError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{source} cannot be read by this edc-ray", found=str(error), next="give another run.name"
        ) from error


def slots_of_run(config: RunConfig, data: OpenedDataset) -> list[Slot]:
    """(class, ipc id) of every condensed image of a run."""
    return [(label, ipc_id) for label in range(len(data.train.class_names)) for ipc_id in range(config.ipc)]
