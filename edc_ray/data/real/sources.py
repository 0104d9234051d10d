"""Real images from any source: opened, checked, split, decoded, and described by a filled DatasetSpec."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import fsspec.core
import numpy as np
from fsspec import AbstractFileSystem

from edc_ray.artifacts.storage.redaction import shown_url
from edc_ray.config.dataset import DatasetSpec, Resize, TrainResize
from edc_ray.core.seeding import draws
from edc_ray.data.real.classes import choose_classes, refuse_empty_classes
from edc_ray.data.real.folders import read_image_folder, read_image_glob
from edc_ray.data.real.images import DenseImages, EncodedImages, ImageSet
from edc_ray.data.real.inference import infer_shape, known_to_be_squares, mean_and_std
from edc_ray.data.real.named import read_digits, read_torchvision
from edc_ray.data.real.own import read_own
from edc_ray.data.real.parquet import choose_split, read_parquet
from edc_ray.data.real.undecoded import MemoryReader, UndecodedImages, decode_rows
from edc_ray.errors import ConfigError, DataError
from edc_ray.own_code import names_own_code

MEMORY_LIMIT = 4 << 30
"""Bytes. A set that is larger when decoded is decoded on demand. Constant: it decides what is hashed."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenedDataset:
    """A dataset ready for use: the spec with every inferred field filled, and its two sets of images."""

    spec: DatasetSpec
    train: ImageSet
    val: ImageSet


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
    train, val = _read_train_and_val(spec, seed)
    train, val = _into_memory(train, memory_limit), _into_memory(val, memory_limit)
    image_size, channels = infer_shape(train, spec.image_size, spec.channels)
    infer_shape(val, image_size, channels)
    train_set = _decode_train(train, image_size, channels, memory_limit, spec.train_resize)
    val_set = _decode(val, image_size, channels, memory_limit, spec.val_resize)
    mean, std = mean_and_std(train_set, spec.mean, spec.std)
    resolved = {
        "num_classes": len(train_set.class_names),
        "class_names": train_set.class_names,
        "image_size": image_size,
        "channels": channels,
        "mean": mean,
        "std": std,
    }
    return OpenedDataset(DatasetSpec.model_validate(spec.model_dump() | resolved), train_set, val_set)


def _read_train_and_val(spec: DatasetSpec, seed: int) -> tuple[UndecodedImages, UndecodedImages]:
    if spec.train is None:
        raise ConfigError(
            f"dataset '{spec.name}' does not say where its training images are",
            expected="a folder, pattern or Parquet URL, sklearn:digits, torchvision:NAME or module:factory",
            next="set dataset.train",
        )
    train = choose_classes(_read_source(spec.train, "train", spec), spec.class_names, spec.num_classes)
    refuse_empty_classes(train)
    if spec.val is None:
        train, val = _hold_out(train, spec.val_fraction, seed)
    else:
        val = _read_source(spec.val, "val", spec)
        _refuse_shared_files(train, val)
        val = choose_classes(val, spec.class_names, None, must_equal=train.class_names)
        _warn_of_empty_classes(val)
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


def _read_source(source: str, role: str, spec: DatasetSpec) -> UndecodedImages:
    kind, _, name = source.partition(":")
    if kind == "sklearn":
        if name != "digits":
            raise DataError(f"unknown dataset '{source}'", expected="sklearn:digits")
        return read_digits(role)
    if kind == "torchvision":
        return read_torchvision(name, role, cache=spec.cache, download=spec.download)
    if names_own_code(source):
        return read_own(source, role)
    with _storage_errors(source):
        return _read_url(source, role)


def _read_url(source: str, role: str) -> UndecodedImages:
    shown = shown_url(source)
    filesystem, path = fsspec.core.url_to_fs(source)
    if filesystem.isfile(path):
        return read_parquet(filesystem, [path], shown)
    if filesystem.isdir(path):
        files = _find(filesystem, path)
        tables = [name for name in files if name.lower().endswith(".parquet")]
        if tables:
            return read_parquet(filesystem, choose_split(tables, role), shown)
        return read_image_folder(filesystem, path, files, shown)
    if any(mark in path for mark in "*?["):
        files = filesystem.glob(path, detail=True)
        assert isinstance(files, dict)
        tables = [name for name in files if name.lower().endswith(".parquet")]
        if tables:
            return read_parquet(filesystem, choose_split(tables, role), shown)
        return read_image_glob(filesystem, files, shown)
    raise DataError(
        f"nothing at {shown}",
        expected="a folder with one folder of images for each class, Parquet files, or a pattern",
        next="check dataset.train and dataset.val",
    )


def _find(filesystem: AbstractFileSystem, folder: str) -> dict[str, Any]:
    files = filesystem.find(folder, detail=True)
    assert isinstance(files, dict)
    # fsspec lists a link to a folder as a file, and subsets often consist of links to class folders.
    for name in [name for name, info in files.items() if info["type"] not in ("file", "directory")]:
        if filesystem.isdir(name):
            files |= filesystem.find(name, detail=True)
    return files


@contextmanager
def _storage_errors(source: str) -> Iterator[None]:
    # Storage libraries raise their own types, which cannot be named here without an import. Their messages
    # may carry signed URLs or credentials, so only the type is shown.
    try:
        yield
    except DataError:
        raise
    except ImportError as error:
        raise DataError(
            f"cannot open {shown_url(source)}",
            found=str(error),
            next="install the storage library: pip install 'edc-ray[s3]', [gcs] or [azure]",
        ) from error
    except Exception as error:
        raise DataError(
            f"cannot open {shown_url(source)}",
            found=type(error).__name__,
            next="check the address and the credentials of this environment",
        ) from error


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


def _decode_train(
    images: UndecodedImages, image_size: int, channels: int, memory_limit: int, resize: TrainResize
) -> ImageSet:
    if resize != "whole":
        return _decode(images, image_size, channels, memory_limit, resize)
    if known_to_be_squares(images, image_size):
        return _decode(images, image_size, channels, memory_limit)
    # Decoded whole pictures would be many times larger than the squares, so they stay encoded.
    return _on_demand(images, image_size, channels, "square", whole=True)


def _decode(
    images: UndecodedImages,
    image_size: int,
    channels: int,
    memory_limit: int,
    resize: Resize = "shorter_side",
) -> ImageSet:
    assert images.class_names is not None
    if len(images.rows) * channels * image_size**2 > memory_limit:
        return _on_demand(images, image_size, channels, resize)
    pixels = decode_rows(images.reader, images.rows, channels=channels, image_size=image_size, resize=resize)
    return DenseImages(pixels, images.labels, images.class_names)


def _on_demand(
    images: UndecodedImages, image_size: int, channels: int, resize: Resize, *, whole: bool = False
) -> EncodedImages:
    assert images.class_names is not None
    _log.info("%s: decoding %d images on demand", images.source, len(images.rows))
    return EncodedImages(
        images.reader,
        images.rows,
        images.labels,
        images.class_names,
        channels=channels,
        image_size=image_size,
        resize=resize,
        whole=whole,
    )


def _warn_of_empty_classes(val: UndecodedImages) -> None:
    assert val.class_names is not None
    missing = len(val.class_names) - len(np.unique(val.labels))
    if missing:
        _log.warning("%s: %d classes have no validation image", val.source, missing)
