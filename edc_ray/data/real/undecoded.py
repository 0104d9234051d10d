"""Images before they are decoded: where their bytes come from, and the decoding."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from PIL import Image

from edc_ray.artifacts.storage.limits import refuse_large_image
from edc_ray.config.dataset import Resize
from edc_ray.errors import DataError

Made = TypeVar("Made")
Item = bytes | np.ndarray
"""An image before it is decoded: the bytes of a file, or uint8 pixels [H, W] or [H, W, C]."""

NUM_THREADS = min(16, 2 * (os.cpu_count() or 1))
"""Threads that read and decode. Pillow releases the interpreter lock; some threads wait for storage."""

FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
"""Of Pillow's other formats some start programs."""


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


def decode_rows(
    reader: ItemReader,
    rows: np.ndarray,
    *,
    channels: int,
    image_size: int,
    resize: Resize = "shorter_side",
) -> np.ndarray:
    """Read and decode rows of a reader with a pool of threads, a few hundred at a time.

    Arguments as those of `decode_pixels`.

    Returns:
        uint8 [n, C, S, S], in the order of `rows`.

    Raises:
        DataError: an image is corrupt; the error names it.
    """
    images = np.empty((len(rows), channels, image_size, image_size), dtype=np.uint8)

    def decode_into(position: int, item: Item) -> None:
        with _naming(reader, int(rows[position])):
            images[position] = decode_pixels(item, channels=channels, image_size=image_size, resize=resize)

    for _ in _in_threads(reader, rows, decode_into):
        pass
    return images


def map_rows(
    reader: ItemReader, rows: np.ndarray, work: Callable[[int, np.ndarray], Made], *, channels: int
) -> list[Made]:
    """What `work` makes of whole pictures, each of its own size, of which a few at a time are in memory.

    Args:
        reader: where they are.
        rows: of the reader.
        work: called in a pool of threads with a picture's position in `rows` and its pixels, uint8 [C, H, W].
        channels: 1 or 3.

    Raises:
        DataError: an image is corrupt; the error names it.
    """

    def decode_and_work(position: int, item: Item) -> Made:
        with _naming(reader, int(rows[position])):
            # A copy: Pillow lends its pixels read-only, which torch does not like.
            picture = _channels_first(_to_mode(open_image(item), "L" if channels == 1 else "RGB")).copy()
        return work(position, picture)

    return list(_in_threads(reader, rows, decode_and_work))


def _in_threads(reader: ItemReader, rows: np.ndarray, work: Callable[[int, Item], Made]) -> Iterator[Made]:
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for start in range(0, len(rows), 512):
            items = reader.read(rows[start : start + 512])
            yield from pool.map(work, range(start, start + len(items)), items)


@contextmanager
def _naming(reader: ItemReader, row: int) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Pillow shows damage in many ways
        raise corrupt_image(reader.name(row), error) from error


def decode_pixels(
    item: Item, *, channels: int, image_size: int, resize: Resize = "shorter_side"
) -> np.ndarray:
    """One image as uint8 [C, S, S].

    An image that has the size already keeps its pixels, but for "eight_sevenths". 16-bit grey values lose
    their lower byte.

    Args:
        item: the undecoded image.
        channels: 1 or 3.
        image_size: S.
        resize: bilinear with antialiasing, as Pillow does. "shorter_side": it becomes S and the centre is cut
            out. "centre_crop": it becomes 8/7 of S and the centre is cut out, as ImageNet is commonly judged
            (256 and 224). "square": both sides become S, whatever the image's shape. "eight_sevenths" (RDED):
            the shorter side becomes S // 7 * 8 (256, 72, 32 for 224, 64, 32), also that of an image of the
            size S, and the centre is cut out.

    Raises:
        OSError, ValueError, SyntaxError: the bytes are no image that Pillow can read; it has, or would be
            enlarged to, more pixels than an image may have.
    """
    image = _to_mode(open_image(item), "L" if channels == 1 else "RGB")
    width, height = image.size
    if (width, height) != (image_size, image_size) or resize == "eight_sevenths":
        new_width, new_height = _resized((width, height), image_size, resize)
        refuse_large_image(new_width, new_height)  # a line of pixels whose shorter side is enlarged
        image = image.resize((new_width, new_height), Image.Resampling.BILINEAR)
        left, top = (new_width - image_size) // 2, (new_height - image_size) // 2
        image = image.crop((left, top, left + image_size, top + image_size))
    return _channels_first(image)


def _channels_first(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels[None] if image.mode == "L" else pixels.transpose(2, 0, 1)


def _resized(size: tuple[int, int], image_size: int, resize: Resize) -> tuple[int, int]:
    """Width and height before the centre is cut out."""
    if resize == "square":
        return image_size, image_size
    enlarged = {"centre_crop": image_size * 8 // 7, "eight_sevenths": max(image_size, image_size // 7 * 8)}
    shorter = enlarged.get(resize, image_size)
    scale = shorter / min(size)
    width, height = (max(shorter, round(side * scale)) for side in size)
    return width, height


def open_image(item: Item) -> Image.Image:
    """A Pillow image of the item; of an encoded one only the header is read.

    Raises:
        OSError, ValueError, SyntaxError: no image of FORMATS, or one of too many pixels.
    """
    image = (
        Image.open(io.BytesIO(item), formats=FORMATS) if isinstance(item, bytes) else Image.fromarray(item)
    )
    refuse_large_image(*image.size)
    return image


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
