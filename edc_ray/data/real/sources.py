"""Real images from any source: opened, checked, split, decoded, and described by a filled DatasetSpec."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from edc_ray.artifacts.storage.redaction import shown_url
from edc_ray.config.dataset import DatasetSpec, Resize
from edc_ray.config.recipes import RECIPES
from edc_ray.core.seeding import draws
from edc_ray.data.real.classes import (
    choose_classes,
    choose_validation,
    refuse_empty_classes,
    warn_of_empty_classes,
)
from edc_ray.data.real.images import DenseImages, EncodedImages, ImageSet
from edc_ray.data.real.inference import Looks, known_to_be_squares, look_at, mean_and_std, probed_rows
from edc_ray.data.real.named import read_digits, read_torchvision
from edc_ray.data.real.own import read_own
from edc_ray.data.real.splits import Role
from edc_ray.data.real.undecoded import (
    Decoding,
    MemoryReader,
    UndecodedImages,
    bad_images,
    decode_rows,
    find_bad_rows,
)
from edc_ray.data.real.urls import find_images
from edc_ray.errors import ConfigError, DataError, OtherImagesError
from edc_ray.own_code import names_own_code

MEMORY_LIMIT = 4 << 30
"""Bytes. A set that is larger when decoded is decoded on demand. Constant: it decides what is hashed."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedDataset:
    """A dataset ready for use: the spec with every inferred field filled, and its two sets of images.

    Attributes:
        bad_train, bad_val: names of the images that were left out because they cannot be decoded.
    """

    spec: DatasetSpec
    train: ImageSet
    val: ImageSet
    bad_train: tuple[str, ...] = ()
    bad_val: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Source:
    """Gives the images of a role.

    Attributes:
        has_validation: whether a source of training images holds validation images too. The libraries' sets
            do not count: their recipes name both.
    """

    read: Callable[[Role], UndecodedImages]
    has_validation: bool = False


def open_dataset(spec: DatasetSpec, seed: int, *, memory_limit: int = MEMORY_LIMIT) -> OpenedDataset:
    """Open, check and describe the images of a spec.

    Args:
        spec: fields at None are inferred from the training images. Class names select those classes in that
            order from a source that names its classes, and name the classes of a source that does not.
        seed: of the held-out split and of the choice for max_per_class.
        memory_limit: bytes of decoded images above which a set is decoded on demand.

    Returns:
        The resolved spec and the sets. Opening the resolved spec again gives the same sets.

    Raises:
        ConfigError: the spec names no training images.
        DataError: the source is missing, empty, corrupt or contradicts the spec. The message says where.
    """
    with _advice_on_names(spec):
        train, val = _read_train_and_val(spec, seed)
    train, bad_train = _without_bad(_into_memory(train, memory_limit), spec)
    val, bad_val = _without_bad(_into_memory(val, memory_limit), spec)
    refuse_empty_classes(train)
    warn_of_empty_classes(val)
    try:
        return _described(spec, train, val, memory_limit, {"bad_train": bad_train, "bad_val": bad_val})
    except DataError:
        # Whatever came to light first: all bad images of both sets are named at once.
        bad = [
            found for one in (train, val) for found in find_bad_rows(one.reader, probed_rows(one)).values()
        ]
        if bad:
            raise bad_images(sorted(bad, key=lambda one: one.name)) from None
        raise


@contextmanager
def _advice_on_names(spec: DatasetSpec) -> Iterator[None]:
    """Images that contradict what a recipe knows may be others than its own, and need a name of their own."""
    try:
        yield
    except OtherImagesError as error:
        if _recipe_elsewhere(spec):
            other = f", or {error.next}" if error.next else ""
            error.next = f"if these are not the images of {spec.name}: dataset.name=NAME of your own{other}"
        raise


def _recipe_elsewhere(spec: DatasetSpec) -> bool:
    """Whether the images of a recipe are taken from a place of the user's."""
    return spec.name in RECIPES and spec.train != RECIPES[spec.name]().dataset.train


def _described(
    spec: DatasetSpec,
    train: UndecodedImages,
    val: UndecodedImages,
    memory_limit: int,
    left_out: dict[str, tuple[str, ...]],
) -> OpenedDataset:
    """The decoded sets and the spec with every inferred field."""
    with _advice_on_names(spec):
        looks = look_at(train, spec.image_size, spec.channels, spec.transparency)
        if looks.grey and spec.channels == 3 and _recipe_elsewhere(spec):
            raise OtherImagesError(f"{train.source}: no image has colour", expected="images in colour")
    image_size, channels = looks.image_size, looks.channels
    train_set = _decode_train(train, looks, memory_limit, spec)
    looks = look_at(val, image_size, channels, spec.transparency)
    val_set = _decode(val, looks, memory_limit, spec.val_resize, spec)
    mean, std = mean_and_std(train_set, spec.mean, spec.std)
    resolved = {
        "num_classes": len(train_set.class_names),
        "class_names": train_set.class_names,
        "image_size": image_size,
        "channels": channels,
        "mean": mean,
        "std": std,
    }
    resolved_spec = DatasetSpec.model_validate(spec.model_dump() | resolved)
    return OpenedDataset(resolved_spec, train_set, val_set, **left_out)


def _read_train_and_val(spec: DatasetSpec, seed: int) -> tuple[UndecodedImages, UndecodedImages]:
    if spec.train is None:
        raise ConfigError(
            f"dataset '{spec.name}' does not say where its training images are",
            expected="a folder, pattern or Parquet URL, sklearn:digits, torchvision:NAME or module:factory",
            next="set dataset.train",
        )
    source = _source(spec.train, spec)
    train, classes = choose_classes(
        source.read("train"), spec.class_names, spec.num_classes, repeated_names=spec.repeated_names
    )
    refuse_empty_classes(train)
    if spec.val is None and not source.has_validation:
        train, val = _hold_out(train, spec.val_fraction, seed)
    else:
        held = source if spec.val in (None, spec.train) else _source(spec.val, spec)
        val = held.read("val")
        _refuse_shared_files(train, val)
        selected = spec.class_names is not None
        val = choose_validation(val, classes, selected=selected, repeated_names=spec.repeated_names)
    train = _limit(train, spec.max_per_class, seed, "max_per_class")
    return train, _limit(val, spec.max_val_per_class, seed, "max_val_per_class")


def _refuse_shared_files(train: UndecodedImages, val: UndecodedImages) -> None:
    shared = train.reader.files() & val.reader.files()
    if shared:
        raise DataError(
            "the training and the validation images share files",
            found=f"{len(shared)} in both, such as {shown_url(min(shared))}",
            expected="validation images that no network was trained on",
            next="name the files of each, such as dataset.train=URL/train*.parquet and "
            "dataset.val=URL/test*.parquet, or leave dataset.val unset to hold out a part",
        )


def _source(source: str, spec: DatasetSpec) -> _Source:
    kind, _, name = source.partition(":")
    if kind == "sklearn":
        if name != "digits":
            raise DataError(f"unknown dataset '{source}'", expected="sklearn:digits")
        return _Source(read_digits)
    if kind == "torchvision":
        return _Source(partial(read_torchvision, name, cache=spec.cache, download=spec.download))
    if names_own_code(source):
        return _Source(partial(read_own, source))
    found = find_images(source)
    read = partial(found.read, image_column=spec.image_column, label_column=spec.label_column)
    return _Source(read, has_validation=found.has_validation)


def _hold_out(images: UndecodedImages, fraction: float, seed: int) -> tuple[UndecodedImages, UndecodedImages]:
    held = np.zeros(len(images.labels), dtype=bool)
    for label in np.unique(images.labels):
        members = np.flatnonzero(images.labels == label)
        if len(members) < 2:
            assert images.class_names is not None
            raise DataError(
                f"{images.source}: no image of class '{images.class_names[label]}' can be held out",
                found="1 image",
                expected="at least 2 images of each class where dataset.val is unset",
                next="give dataset.val",
            )
        count = min(max(1, round(fraction * len(members))), len(members) - 1)
        order = draws(seed, "data", "hold_out", int(label)).permutation(len(members))
        held[members[order[:count]]] = True
    return _take(images, np.flatnonzero(~held)), _take(images, np.flatnonzero(held))


def _limit(images: UndecodedImages, limit: int | None, seed: int, purpose: str) -> UndecodedImages:
    if limit is None:
        return images
    kept = []
    for label in np.unique(images.labels):
        members = np.flatnonzero(images.labels == label)
        order = draws(seed, "data", purpose, int(label)).permutation(len(members))
        kept.append(members[order[:limit]])
    return _take(images, np.sort(np.concatenate(kept)))


def _take(images: UndecodedImages, indices: np.ndarray) -> UndecodedImages:
    return replace(images, rows=images.rows[indices], labels=images.labels[indices])


def _into_memory(images: UndecodedImages, memory_limit: int) -> UndecodedImages:
    """The undecoded bytes in memory if they fit, so that each is fetched from storage once."""
    share = len(images.rows) / max(1, len(images.reader))
    if isinstance(images.reader, MemoryReader) or images.reader.total_bytes * share > memory_limit:
        return images
    items = images.reader.read(images.rows)
    names = [images.reader.name(int(row)) for row in images.rows]
    return replace(images, reader=MemoryReader(items, names), rows=np.arange(len(items)))


def _without_bad(images: UndecodedImages, spec: DatasetSpec) -> tuple[UndecodedImages, tuple[str, ...]]:
    """The images that can be decoded, and the names of the others, where the spec says to skip these.

    Decodes all images once more than needed, so that every later step sees sound images only.
    """
    if spec.on_bad_image != "skip":
        return images, ()
    found = find_bad_rows(images.reader, images.rows)
    bad = [found[position] for position in sorted(found)]
    if not bad:
        return images, ()
    if len(bad) > spec.max_bad_images:
        raise bad_images(bad, limit=spec.max_bad_images)
    _log.warning(
        "%s: left out images that cannot be decoded (%d): %s",
        images.source, len(bad), "; ".join(f"{one.name} ({one.problem})" for one in bad),
    )  # fmt: skip
    sound = np.setdiff1d(np.arange(len(images.rows)), np.asarray(sorted(found)))
    return _take(images, sound), tuple(one.name for one in bad)


def _decode_train(images: UndecodedImages, looks: Looks, memory_limit: int, spec: DatasetSpec) -> ImageSet:
    if spec.train_resize != "whole":
        return _decode(images, looks, memory_limit, spec.train_resize, spec)
    if known_to_be_squares(images, looks.image_size):
        return _decode(images, looks, memory_limit, "shorter_side", spec)
    # Decoded whole pictures would be many times larger than the squares, so they stay encoded.
    return _on_demand(images, looks, "square", spec, whole=True)


def _decode(
    images: UndecodedImages, looks: Looks, memory_limit: int, resize: Resize, spec: DatasetSpec
) -> ImageSet:
    assert images.class_names is not None
    if len(images.rows) * looks.channels * looks.image_size**2 > memory_limit:
        return _on_demand(images, looks, resize, spec)
    decoding = Decoding(looks.channels, looks.image_size, resize, spec.transparency)
    pixels = decode_rows(images.reader, images.rows, decoding)
    return DenseImages(pixels, images.labels, images.class_names)


def _on_demand(
    images: UndecodedImages, looks: Looks, resize: Resize, spec: DatasetSpec, *, whole: bool = False
) -> EncodedImages:
    assert images.class_names is not None
    _log.info("%s: decoding %d images on demand", images.source, len(images.rows))
    return EncodedImages(
        images.reader,
        images.rows,
        images.labels,
        images.class_names,
        Decoding(looks.channels, looks.image_size, resize, spec.transparency, spec.decoder),
        whole=whole,
        shown_otherwise=looks.shown_otherwise,
    )
