"""Condensed images in the official programs' layout: one folder for each class, one file for each image.

    new000/class000_id000.jpg        EDC
    00000/class00000_id00000.jpg     RDED

N images, K classes. An official label file names an image by its place among all files, sorted.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edc_ray.artifacts.storage.limits import MAX_DECODED_BYTES, MAX_IMAGE_BYTES
from edc_ray.artifacts.storage.store import Store
from edc_ray.artifacts.tables.codec import ImageFormat, decode_image, encode_image
from edc_ray.data.real.undecoded import NUM_THREADS
from edc_ray.errors import DataError

Style = Literal["official", "rded"]
Slot = tuple[int, int]

_log = logging.getLogger(__name__)
_FOLDER = re.compile(r"(?:new)?(\d+)")
_FILE = re.compile(r"class(\d+)_id(\d+)\.\w+")
_IMAGE = re.compile(r".*\.(?:jpe?g|png)", re.IGNORECASE)
_DIGITS = {"official": 3, "rded": 5}
_SUFFIX: dict[ImageFormat, str] = {"jpeg": "jpg", "png": "png"}
_LAYOUT = "new000/class000_id000.jpg, or 00000/class00000_id00000.jpg"


@dataclass(frozen=True)
class OfficialFolder:
    """The files of a folder of condensed images.

    Attributes:
        store: opened at the folder.
        files: relative paths, sorted: label files count images in this order.
        slots: (class, ipc id) of each file.
        num_classes: K.
        ipc: images of each class.
        class_names: by label; None if the folder does not state them.
    """

    store: Store
    files: tuple[str, ...]
    slots: tuple[Slot, ...]
    num_classes: int
    ipc: int
    class_names: tuple[str, ...] | None = None

    def encoded(self, row: int) -> bytes:
        """The bytes of an image."""
        return self.store.read(self.files[row], limit=MAX_IMAGE_BYTES)

    def read(self, rows: Sequence[int]) -> np.ndarray:
        """Images of some files, decoded: uint8 [n, C, S, S].

        Raises:
            DataError: they are not squares of one size.
            ArtifactError: a file is missing or cannot be decoded. Names the file.
        """

        def load(row: int) -> np.ndarray:
            return decode_image(self.encoded(row), url=self.store.join(self.files[row]))

        first = load(rows[0])
        if first.nbytes * len(rows) > MAX_DECODED_BYTES:
            raise DataError(
                f"{self.store.join(self.files[rows[0]])} is too large",
                found=f"{len(rows)} images of {_size(first)}",
                expected=f"at most {MAX_DECODED_BYTES} bytes together",
            )

        def load_alike(row: int) -> np.ndarray:
            image = load(row)
            if image.shape != first.shape or image.shape[1] != image.shape[2]:
                raise DataError(
                    f"{self.store.url}: the images are not squares of one size",
                    found=f"{_size(image)} in {self.files[row]}, {_size(first)} in {self.files[rows[0]]}",
                    expected="one size, as a condensed set has",
                )
            return image

        with ThreadPoolExecutor(NUM_THREADS) as pool:
            return np.stack(list(pool.map(load_alike, rows)))


def open_official_folder(store: Store) -> OfficialFolder:
    """List a folder of condensed images and check that it is a whole set.

    If the ids in the names of a class repeat (the candidates of EDC's initial images all end in id000), its
    images are numbered in the order of their names. Other or missing files: a DataError.
    """
    images = [path for path in store.list() if _IMAGE.fullmatch(path)]
    files = [path for path in images if not any(part.startswith(".") for part in path.split("/"))]
    if not files:
        raise DataError(f"no images in {store.url}", expected=_LAYOUT)
    labels = [_label_of(store, path) for path in files]
    ids = [_id_of(store, path, label) for path, label in zip(files, labels, strict=True)]
    slots, num_classes = numbered_slots(store, labels, ids)
    return OfficialFolder(store, tuple(files), slots, num_classes, len(files) // num_classes)


def numbered_slots(
    store: Store, labels: Sequence[int], ids: Sequence[int | None]
) -> tuple[tuple[Slot, ...], int]:
    """(class, ipc id) of images whose ids may be unknown, and the number of classes.

    Raises:
        DataError: missing classes, or classes of different sizes.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for row, label in enumerate(labels):
        members[label].append(row)
    _refuse_ragged(store, members)
    numbers, renumbered = dict[int, int](), 0
    for rows in members.values():
        known = [number for number in (ids[row] for row in rows) if number is not None]
        if sorted(known) != list(range(len(rows))):
            renumbered += 1
            known = list(range(len(rows)))
        numbers |= zip(rows, known, strict=True)
    if renumbered:
        _log.warning(
            "%s: the ids of the images of %d classes are not 0, 1, ...; numbering the images in the order "
            "of their names", store.url, renumbered,
        )  # fmt: skip
    return tuple((label, numbers[row]) for row, label in enumerate(labels)), len(members)


def official_image_path(slot: Slot, style: Style, suffix: str) -> str:
    """Path of an image in a folder of a style."""
    digits = _DIGITS[style]
    label, ipc_id = slot
    folder = f"{label:0{digits}d}" if style == "rded" else f"new{label:0{digits}d}"
    return f"{folder}/class{label:0{digits}d}_id{ipc_id:0{digits}d}.{suffix}"


def reencoded(data: bytes, format: ImageFormat | None) -> bytes:
    """An encoded image in a format. Its bytes do not change if it has this format, or the format is None."""
    if format is None or format == _format_of(data):
        return data
    return encode_image(decode_image(data), format)


def image_suffix(data: bytes) -> str:
    """png or jpg."""
    return _SUFFIX[_format_of(data)]


def _format_of(data: bytes) -> ImageFormat:
    return "jpeg" if data.startswith(b"\xff\xd8\xff") else "png"


def _label_of(store: Store, path: str) -> int:
    folder, _, name = path.partition("/")
    match = _FOLDER.fullmatch(folder)
    if match is None or not name or "/" in name:
        raise DataError(
            f"{store.url} is not a folder of condensed images",
            found=path,
            expected=_LAYOUT,
            next="give real images to dataset.train, which reads them without import",
        )
    return int(match[1])


def _id_of(store: Store, path: str, label: int) -> int | None:
    match = _FILE.fullmatch(path.partition("/")[2])
    if match is None:
        return None
    if int(match[1]) != label:
        raise DataError(
            f"{store.url}: the folder and the name of an image differ in its class",
            found=path,
            expected=f"class {label}",
        )
    return int(match[2])


def _refuse_ragged(store: Store, members: Mapping[int, Sequence[int]]) -> None:
    most = sum(map(len, members.values()))
    if min(members) < 0 or max(members) > most:  # anyone may have written it: do not count up to it
        raise DataError(
            f"{store.url}: an image has an impossible class",
            found=f"class {min(members) if min(members) < 0 else max(members)}",
            expected=f"classes from 0 on, for {most} images",
        )
    if missing := [label for label in range(max(members) + 1) if label not in members]:
        raise DataError(
            f"{store.url}: classes without images",
            found=f"no folder of class {missing[0]} ({len(missing)} such classes)",
            expected=f"classes 0 to {max(members)}",
        )
    sizes = {label: len(rows) for label, rows in members.items()}
    usual = max(sizes.values())
    if short := {label: size for label, size in sizes.items() if size != usual}:
        label = min(short)
        raise DataError(
            f"{store.url}: classes have different numbers of images",
            found=f"class {label} has {short[label]} ({len(short)} such classes)",
            expected=f"{usual}, like the others",
        )


def _size(image: np.ndarray) -> str:
    return "x".join(map(str, image.shape))
