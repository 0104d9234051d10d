"""Images before they are decoded: where their bytes come from, and the decoding."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from edc_ray.errors import DataError

Item = bytes | np.ndarray
"""An image before it is decoded: the bytes of a file, or uint8 pixels [H, W] or [H, W, C]."""

NUM_THREADS = min(16, 2 * (os.cpu_count() or 1))
"""Threads that read and decode. Pillow releases the interpreter lock; some threads wait for storage."""


class ItemReader(Protocol):
    """Where undecoded images come from. Picklable."""

    total_bytes: int

    def __len__(self) -> int: ...

    def read(self, rows: Sequence[int] | np.ndarray) -> list[Item]:
        """The undecoded images of some rows, in the order asked for."""
        ...

    def name(self, row: int) -> str:
        """What an error calls a row: its URL, or its file and row."""
        ...

    def digest(self, rows: np.ndarray) -> bytes:
        """A hash of the content of some rows."""
        ...

    def files(self) -> set[str]:
        """URLs of the files that hold the images; empty where no file does."""
        ...


class MemoryReader:
    """Undecoded images in memory.

    Args:
        items: one for each row; an array [N, H, W] or [N, H, W, C] counts as N items.
        names: what errors call each row; a single string is followed by the row's number.
    """

    def __init__(self, items: Sequence[Item] | np.ndarray, names: Sequence[str] | str) -> None:
        self._items = items
        self._names = names
        self.total_bytes = sum(len(item) if isinstance(item, bytes) else item.nbytes for item in items)

    def __len__(self) -> int:
        return len(self._items)

    def read(self, rows: Sequence[int] | np.ndarray) -> list[Item]:
        """See ItemReader."""
        return [self._items[row] for row in rows]

    def name(self, row: int) -> str:
        """See ItemReader."""
        return f"{self._names} row {row}" if isinstance(self._names, str) else self._names[row]

    def digest(self, rows: np.ndarray) -> bytes:
        """See ItemReader; covers the bytes themselves."""
        sha = hashlib.sha256()
        for item in self.read(rows):
            data = item if isinstance(item, bytes) else np.ascontiguousarray(item).tobytes()
            sha.update(hashlib.sha256(data).digest())
        return sha.digest()

    def files(self) -> set[str]:
        """See ItemReader."""
        return set()


@dataclass(frozen=True)
class UndecodedImages:
    """What a source holds, before classes are chosen and sizes known.

    Attributes:
        reader: the images.
        rows: row of the reader for each image.
        labels: int64 [N].
        class_names: names in label order, or None where the source only numbers its classes.
        source: what errors call the source.
    """

    reader: ItemReader
    rows: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...] | None
    source: str


def decode_rows(reader: ItemReader, rows: np.ndarray, *, channels: int, image_size: int) -> np.ndarray:
    """Read and decode rows of a reader with a pool of threads, a few hundred at a time.

    Returns:
        uint8 [n, C, S, S], in the order of `rows`.

    Raises:
        DataError: an image is corrupt; the error names it.
    """
    images = np.empty((len(rows), channels, image_size, image_size), dtype=np.uint8)

    def decode_into(position: int, item: Item) -> None:
        try:
            images[position] = decode_pixels(item, channels=channels, image_size=image_size)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise corrupt_image(reader.name(int(rows[position])), error) from error

    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for start in range(0, len(rows), 512):
            items = reader.read(rows[start : start + 512])
            for _ in pool.map(decode_into, range(start, start + len(items)), items):
                pass
    return images


def decode_pixels(item: Item, *, channels: int, image_size: int) -> np.ndarray:
    """One image as uint8 [C, S, S].

    The shorter side is resized to S (bilinear with antialiasing, as Pillow does) and the centre is cut out;
    an image that has the size already keeps its pixels. 16-bit grey values lose their lower byte.

    Raises:
        OSError, ValueError, SyntaxError: the bytes are no image that Pillow can read.
    """
    image = _to_mode(open_image(item), "L" if channels == 1 else "RGB")
    width, height = image.size
    if (width, height) != (image_size, image_size):
        scale = image_size / min(width, height)
        new_width, new_height = (max(image_size, round(side * scale)) for side in (width, height))
        image = image.resize((new_width, new_height), Image.Resampling.BILINEAR)
        left, top = (new_width - image_size) // 2, (new_height - image_size) // 2
        image = image.crop((left, top, left + image_size, top + image_size))
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def open_image(item: Item) -> Image.Image:
    """A Pillow image of the item; of an encoded one only the header is read."""
    return Image.open(io.BytesIO(item)) if isinstance(item, bytes) else Image.fromarray(item)


def is_grey(image: Image.Image) -> bool:
    """Whether an image is stored without colour."""
    return image.mode in ("1", "L", "LA") or image.mode.startswith("I")


def corrupt_image(name: str, error: Exception) -> DataError:
    """The error for an image that cannot be decoded."""
    return DataError(
        f"cannot decode image {name}",
        found=f"{type(error).__name__}: {error}",
        expected="a PNG, JPEG, BMP or WebP image",
        next="repair or remove it",
    )


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow would clip 16-bit values at 255: nearly all white.
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)
