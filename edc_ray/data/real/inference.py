"""Inferring side, channels, mean and standard deviation from images."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from edc_ray.config.dataset import Transparency
from edc_ray.data.real.images import DenseImages, ImageSet
from edc_ray.data.real.undecoded import (
    NUM_THREADS,
    BadImageError,
    Item,
    MemoryReader,
    UndecodedImages,
    bad_images,
    is_grey,
    open_image,
    shown_otherwise,
)
from edc_ray.errors import DataError, OtherImagesError

MAX_PROBED = 2000
"""Images, evenly spaced over a set that is not in memory, whose headers are read."""
MAX_MEASURED = 5000
"""Images that give mean and std of a set that is decoded on demand."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Looks:
    """What the headers of a set's images say.

    Attributes:
        image_size: side that the set will have once decoded.
        channels: 1 or 3.
        grey: no image has colour.
        shown_otherwise: some image is turned when it is shown, or has transparent pixels.
    """

    image_size: int
    channels: int
    grey: bool
    shown_otherwise: bool


def look_at(
    images: UndecodedImages, image_size: int | None, channels: int | None, transparency: Transparency
) -> Looks:
    """What a set will look like once decoded.

    Args:
        images: undecoded. Reads the headers of all images in memory, else of a sample.
        image_size: given side. None: the shorter side that more than half of the images have, else the median
            rounded to a multiple of 8.
        channels: given number. None: 1 if all images are grey, else 3.
        transparency: what shows behind transparent pixels.

    Raises:
        DataError: images are corrupt, have colour despite channels=1, or they are too small.
    """
    sides, grey, otherwise = _probe(images, transparency)
    if channels == 1 and not all(grey):
        raise OtherImagesError(
            f"{images.source}: images are coloured",
            found=f"{grey.count(False)} of {len(grey)} images with colour",
            expected="grey images, because the dataset has one channel",
            next="set dataset.channels=3",
        )
    if image_size is None:
        image_size = _common_side(sides, images.source)
    return Looks(image_size, channels or (1 if all(grey) else 3), all(grey), otherwise)


def mean_and_std(
    images: ImageSet, mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per-channel mean and standard deviation of pixels in [0, 1]: given, or measured to 6 digits.

    They are measured exactly, over all pixels, from a histogram of the 256 values. A set that is decoded on
    demand is measured on a sample.

    Raises:
        DataError: a given tuple does not have one positive number for each channel, or a channel is constant.
    """
    for field, given in (("mean", mean), ("std", std)):
        if given is not None and len(given) != images.channels:
            raise OtherImagesError(
                f"dataset.{field} contradicts the images",
                found=f"{len(given)} numbers",
                expected=f"{images.channels}, one for each channel",
            )
    if std is not None and min(std) <= 0:
        raise DataError("dataset.std must be positive", found=std)
    if mean is not None and std is not None:
        return mean, std
    measured_mean, measured_std = _measure(images)
    if std is None and min(measured_std) == 0:
        raise DataError(
            "a channel has the same value in every pixel of the training images",
            found=f"std {measured_std}",
            next="check the images, or give dataset.std",
        )
    return mean or measured_mean, std or measured_std


def known_to_be_squares(images: UndecodedImages, image_size: int) -> bool:
    """Whether all images are in memory and already have the size, so that decoding changes no pixel."""
    if not isinstance(images.reader, MemoryReader):
        return False
    items = images.reader.read(images.rows)
    return all(open_image(item).size == (image_size, image_size) for item in items)


def _measure(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    total = len(images)
    chosen = np.arange(total)
    if not isinstance(images, DenseImages) and total > MAX_MEASURED:
        chosen = np.linspace(0, total - 1, MAX_MEASURED).astype(np.int64)
        _log.info("measuring mean and std on %d of %d images", MAX_MEASURED, total)
    counts = np.zeros((images.channels, 256), dtype=np.int64)
    for start in range(0, len(chosen), 1024):
        block = images.fetch(chosen[start : start + 1024])
        for channel in range(images.channels):
            counts[channel] += np.bincount(block[:, channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    weights = counts / counts.sum(axis=1, keepdims=True)
    mean = weights @ values
    variance = (weights * (values - mean[:, None]) ** 2).sum(axis=1)
    return (
        tuple(round(float(value), 6) for value in mean),
        tuple(round(float(value), 6) for value in np.sqrt(variance)),
    )


def probed_rows(images: UndecodedImages) -> np.ndarray:
    """The rows whose headers are read: all in memory, else a sample."""
    rows = images.rows
    if isinstance(images.reader, MemoryReader) or len(rows) <= MAX_PROBED:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MAX_PROBED).astype(np.int64)]


def _probe(images: UndecodedImages, transparency: Transparency) -> tuple[np.ndarray, list[bool], bool]:
    """Shorter sides, whether each image is grey, and whether any is shown otherwise than it is stored."""
    rows = probed_rows(images)

    def look(row: int, item: Item) -> tuple[int, bool, bool]:
        try:
            image = open_image(item)
            return min(image.size), is_grey(image), shown_otherwise(image, transparency)
        except Exception as error:  # Pillow shows damage in many ways
            raise bad_images([BadImageError.of(images.reader.name(row), error)]) from error

    seen: list[tuple[int, bool, bool]] = []
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for start in range(0, len(rows), 512):
            block = [int(row) for row in rows[start : start + 512]]
            seen += pool.map(look, block, images.reader.read(block))
    sides, grey, otherwise = zip(*seen, strict=True)
    return np.asarray(sides), list(grey), any(otherwise)


def _common_side(sides: np.ndarray, source: str) -> int:
    values, counts = np.unique(sides, return_counts=True)
    side = int(values[counts.argmax()])
    if 2 * counts.max() <= len(sides):
        side = max(8, 8 * round(float(np.median(sides)) / 8))
    side = min(side, 1024)
    if len(values) > 1:
        _log.info(
            "%s: images have shorter sides of %d to %d pixels; all become %dx%d (dataset.image_size)",
            source, values[0], values[-1], side, side,
        )  # fmt: skip
    if side < 4:
        raise DataError(
            f"{source}: images are too small", found=f"{side} pixels", expected="4 pixels or more"
        )
    return side
