"""Condensed images as the official programs keep them: one folder for each class, one file for each image.

    new000/class000_id000.jpg        EDC
    00000/class00000_id00000.jpg     RDED

N images, K classes. An official label file calls an image by its place among all files, sorted.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edc_ray.artifacts.codec import ImageFormat, decode_image, encode_image
from edc_ray.artifacts.limits import MAX_IMAGE_BYTES
from edc_ray.artifacts.store import Store
from edc_ray.data.undecoded import NUM_THREADS
from edc_ray.errors import DataError

Style = Literal["official", "rded"]
Slot = tuple[int, int]

_log = logging.getLogger(__name__)
_FOLDER = re.compile(r"(?:new)?(\d+)")
_FILE = re.compile(r"class(\d+)_id(\d+)\.\w+")
_IMAGE = re.compile(r".*\.(?:jpe?g|png)", re.IGNORECASE)
_DIGITS = {"official": 3, "rded": 5}
_SUFFIX: dict[ImageFormat, str] = {"jpeg": "jpg", "png": "png"}
_MAGIC: dict[ImageFormat, bytes] = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG"}


@dataclass(frozen=True)
class OfficialFolder:
    """The files of a folder of condensed images.

    Attributes:
        store: opened at the folder.
        files: relative paths, sorted: the order in which label files count images.
        slots: (class, ipc id) of each file.
        num_classes: K.
        ipc: images of each class.
    """

    store: Store
    files: tuple[str, ...]
    slots: tuple[Slot, ...]
    num_classes: int
    ipc: int

    def read(self, rows: Sequence[int]) -> np.ndarray:
        """Images of some files, decoded: uint8 [n, C, S, S].

        Raises:
            DataError: they are not squares of one size.
            ArtifactError: a file is missing or cannot be decoded; names it.
        """

        def load(row: int) -> np.ndarray:
            path = self.files[row]
            return decode_image(self.store.read(path, limit=MAX_IMAGE_BYTES), url=self.store.join(path))

        with ThreadPoolExecutor(NUM_THREADS) as pool:
            images = list(pool.map(load, rows))
        first = images[0].shape
        for row, image in zip(rows, images, strict=True):
            if image.shape != first or image.shape[1] != image.shape[2]:
                raise DataError(
                    f"{self.store.url}: the images are not squares of one size",
                    found=f"{_size(image)} in {self.files[row]}, {_size(images[0])} in {self.files[rows[0]]}",
                    expected="one size, as a condensed set has",
                )
        return np.stack(images)


def open_official_folder(store: Store) -> OfficialFolder:
    """List a folder of condensed images and check that it is a whole set.

    Where the ids in the names of a class repeat (the candidates of EDC's initial images all end in id000),
    its images are numbered in the order of their names.

    Raises:
        DataError: other folders or files, missing classes, or classes of different sizes.
    """
    files = [path for path in store.list() if _IMAGE.fullmatch(path) and not _is_hidden(path)]
    if not files:
        raise DataError(
            f"no images in {store.url}",
            expected="new000/class000_id000.jpg, or 00000/class00000_id00000.jpg",
        )
    labels = [_label_of(store, path) for path in files]
    members: dict[int, list[int]] = defaultdict(list)
    for row, label in enumerate(labels):
        members[label].append(row)
    _refuse_ragged(store, members)
    ids: list[int] = [0] * len(files)
    renumbered = []
    for label, rows in members.items():
        found = [_id_of(store, files[row], label) for row in rows]
        if sorted(n for n in found if n is not None) != list(range(len(rows))):
            renumbered.append(label)
            found = list(range(len(rows)))
        for row, number in zip(rows, found, strict=True):
            assert number is not None
            ids[row] = number
    if renumbered:
        _log.warning(
            "%s: the ids in the file names of %d classes are not 0, 1, ...; images are numbered in the order "
            "of their names", store.url, len(renumbered),
        )  # fmt: skip
    slots = tuple(zip(labels, ids, strict=True))
    return OfficialFolder(store, tuple(files), slots, len(members), len(files) // len(members))


def official_image_path(slot: Slot, style: Style, format: ImageFormat) -> str:
    """Where an image stands in a folder of a style."""
    digits = _DIGITS[style]
    label, ipc_id = slot
    folder = f"{label:0{digits}d}" if style == "rded" else f"new{label:0{digits}d}"
    return f"{folder}/class{label:0{digits}d}_id{ipc_id:0{digits}d}.{_SUFFIX[format]}"


def write_official_images(
    store: Store,
    images: Mapping[Slot, bytes],
    style: Style,
    *,
    format: ImageFormat | None = None,
    quality: int = 75,
) -> dict[Slot, str]:
    """Write encoded images under their official names.

    Args:
        store: of the folder.
        images: PNG or JPEG bytes of each slot.
        style: of the names.
        format: encode anew what is in another format; None keeps all bytes as they are, and with them the
            pixels that labels were made of.
        quality: of JPEG.

    Returns:
        The path of each image.
    """
    paths: dict[Slot, str] = {}
    contents: list[tuple[str, bytes]] = []
    for slot, data in images.items():
        has: ImageFormat = "jpeg" if data.startswith(_MAGIC["jpeg"]) else "png"
        wanted = format or has
        if wanted != has:
            data = encode_image(decode_image(data), wanted, quality)
        paths[slot] = official_image_path(slot, style, wanted)
        contents.append((paths[slot], data))
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        list(pool.map(lambda file: store.publish(*file, replace=True), contents))
    return paths


def _label_of(store: Store, path: str) -> int:
    folder, _, name = path.partition("/")
    match = _FOLDER.fullmatch(folder)
    if match is None or not name or "/" in name:
        raise DataError(
            f"{store.url} is no folder of condensed images",
            found=path,
            expected="new000/class000_id000.jpg, or 00000/class00000_id00000.jpg",
            next="real images are read by dataset.train, not imported",
        )
    return int(match[1])


def _id_of(store: Store, path: str, label: int) -> int | None:
    match = _FILE.fullmatch(path.partition("/")[2])
    if match is None:
        return None
    if int(match[1]) != label:
        raise DataError(
            f"{store.url}: folder and file name of an image differ in its class",
            found=path,
            expected=f"class {label}",
        )
    return int(match[2])


def _refuse_ragged(store: Store, members: Mapping[int, Sequence[int]]) -> None:
    # Counted, not listed: a folder's name may hold any number.
    if missing := max(members) + 1 - len(members):
        first = next(label for label in itertools.count() if label not in members)
        raise DataError(
            f"{store.url}: classes without images",
            found=f"no folder of class {first} ({missing} such classes)",
            expected=f"classes 0 to {max(members)}",
        )
    sizes = {label: len(rows) for label, rows in members.items()}
    usual = max(sizes.values())
    if short := {label: size for label, size in sizes.items() if size != usual}:
        label = min(short)
        raise DataError(
            f"{store.url}: classes have different numbers of images",
            found=f"class {label} has {short[label]} ({len(short)} such classes)",
            expected=f"{usual}, as the others",
        )


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _size(image: np.ndarray) -> str:
    return "x".join(map(str, image.shape))
