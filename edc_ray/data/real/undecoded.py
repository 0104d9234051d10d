"""Undecoded images: where their bytes come from, and how they are decoded."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from edc_ray.artifacts.storage.limits import MAX_IMAGE_PIXELS, TooManyPixelsError, refuse_large_image
from edc_ray.config.dataset import Decoder, Resize, Transparency
from edc_ray.errors import DataError

Made = TypeVar("Made")


class BadImageError(Exception):
    """An image that cannot be read or decoded.

    Args:
        name: of the image, as `ItemReader.name` gives it.
        problem: what is wrong.
        advice: what to do.
    """

    def __init__(self, name: str, problem: str, advice: str = "repair or remove it") -> None:
        super().__init__(name, problem, advice)
        self.name, self.problem, self.advice = name, problem, advice

    @classmethod
    def of(cls, name: str, error: Exception) -> BadImageError:
        """From whatever was raised while an image was decoded."""
        if isinstance(error, BadImageError):
            return error
        if isinstance(
            error, (TooManyPixelsError, Image.DecompressionBombError, Image.DecompressionBombWarning)
        ):
            return cls(name, str(error).partition(",")[0], "scale it down")
        if isinstance(error, UnidentifiedImageError):
            return cls(name, "no image of these formats")
        return cls(name, f"{type(error).__name__}: {error}")


Item = bytes | np.ndarray | BadImageError
"""An image before it is decoded: the bytes of a file, uint8 pixels [H, W] or [H, W, C], or what is wrong."""

_MOST_LISTED = 50

NUM_THREADS = min(16, 2 * (os.cpu_count() or 1))
"""Threads that read and decode. Pillow releases the interpreter lock, and some threads wait for storage."""

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "PPM")
"""Of an animation the first picture counts. Some of Pillow's other formats start programs."""

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"
)  # fmt: skip

# `refuse_large_image` has a lower limit, and says so in one sentence.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_ORIENTATION = 0x0112
"""The EXIF tag that says how a photograph is turned when it is shown; 1: not at all."""


@dataclass(frozen=True)
class Decoding:
    """How images become pixels of one size.

    Attributes:
        channels: 1 or 3. Images are converted.
        image_size: side S in pixels.
        resize: see `decode_pixels`.
        transparency: what shows behind transparent pixels; "ignore" takes their colours as if opaque.
        decoder: of JPEG files, see `device_decoding`.
    """

    channels: int
    image_size: int
    resize: Resize = "shorter_side"
    transparency: Transparency = "white"
    decoder: Decoder = "pillow"

    @property
    def mode(self) -> str:
        """Pillow's name of the pixels' form."""
        return "L" if self.channels == 1 else "RGB"


class ItemReader(Protocol):
    """Where undecoded images come from. Picklable."""

    total_bytes: int

    def __len__(self) -> int: ...

    def read(self, rows: Sequence[int] | np.ndarray) -> list[Item]:
        """The undecoded images of some rows, in that order."""
        ...

    def name(self, row: int) -> str:
        """The name of a row in errors: its URL, or its file and row."""
        ...

    def digest(self, rows: np.ndarray) -> bytes:
        """A hash of the content of some rows."""
        ...

    def files(self) -> set[str]:
        """URLs of the files that hold the images, if any."""
        ...


def _num_bytes(item: Item) -> int:
    if isinstance(item, BadImageError):
        return 0
    return len(item) if isinstance(item, bytes) else item.nbytes


class MemoryReader:
    """Undecoded images in memory.

    Args:
        items: one for each row. An array [N, H, W] or [N, H, W, C] counts as N items.
        names: of each row in errors. A single string is followed by the row's number.
    """

    def __init__(self, items: Sequence[Item] | np.ndarray, names: Sequence[str] | str) -> None:
        self._items = items
        self._names = names
        self.total_bytes = sum(map(_num_bytes, items))

    def __len__(self) -> int:
        return len(self._items)

    def read(self, rows: Sequence[int] | np.ndarray) -> list[Item]:
        """See ItemReader."""
        return [self._items[row] for row in rows]

    def name(self, row: int) -> str:
        """See ItemReader."""
        return f"{self._names} row {row}" if isinstance(self._names, str) else self._names[row]

    def digest(self, rows: np.ndarray) -> bytes:
        """See ItemReader. Covers the bytes themselves."""
        sha = hashlib.sha256()
        for item in self.read(rows):
            if isinstance(item, BadImageError):
                raise bad_images([item])
            data = item if isinstance(item, bytes) else np.ascontiguousarray(item).tobytes()
            sha.update(hashlib.sha256(data).digest())
        return sha.digest()

    def files(self) -> set[str]:
        """See ItemReader."""
        return set()


@dataclass(frozen=True)
class UndecodedImages:
    """The content of a source, before classes are chosen and sizes are known.

    Attributes:
        reader: the images.
        rows: row of the reader for each image.
        labels: int64 [N].
        class_names: names in label order, or None if the source only numbers its classes.
        source: its name in errors.
    """

    reader: ItemReader
    rows: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...] | None
    source: str


def decode_rows(reader: ItemReader, rows: np.ndarray, decoding: Decoding) -> np.ndarray:
    """Read and decode rows of a reader with a pool of threads, a few hundred at a time.

    Returns:
        uint8 [n, C, S, S], in the order of `rows`.

    Raises:
        DataError: images are corrupt; the error names them.
    """
    pixels, bad = decode_sound_rows(reader, rows, decoding)
    if bad:
        raise bad_images([bad[position] for position in sorted(bad)])
    return pixels


def decode_sound_rows(
    reader: ItemReader, rows: np.ndarray, decoding: Decoding
) -> tuple[np.ndarray, dict[int, BadImageError]]:
    """As `decode_rows`, with the images that cannot be decoded by their position in `rows`.

    Their pixels are undefined.
    """
    size = decoding.image_size
    images = np.empty((len(rows), decoding.channels, size, size), dtype=np.uint8)

    def decode_into(position: int, item: Item) -> BadImageError | None:
        try:
            images[position] = decode_pixels(item, decoding)
        except Exception as error:  # Pillow shows damage in many ways
            return BadImageError.of(reader.name(int(rows[position])), error)
        return None

    made = enumerate(_in_threads(reader, rows, decode_into))
    return images, {position: problem for position, problem in made if problem is not None}


def find_bad_rows(reader: ItemReader, rows: np.ndarray) -> dict[int, BadImageError]:
    """The images that cannot be decoded, by their position in `rows`. Decodes all, and keeps none."""

    def look(position: int, item: Item) -> BadImageError | None:
        try:
            open_image(item).load()
        except Exception as error:  # as above
            return BadImageError.of(reader.name(int(rows[position])), error)
        return None

    made = enumerate(_in_threads(reader, rows, look))
    return {position: problem for position, problem in made if problem is not None}


def map_rows(
    reader: ItemReader, rows: np.ndarray, work: Callable[[int, Tensor], Made], decoding: Decoding
) -> list[Made]:
    """The results of `work` for whole pictures of any size, a few of which are in memory at a time.

    Args:
        reader: of the pictures.
        rows: of the reader.
        work: called in a pool of threads with a picture's position in `rows` and its pixels, uint8 [C, H, W].
        decoding: its size does not matter.

    Raises:
        DataError: an image is corrupt; the error names it.
    """

    def decode_and_work(position: int, item: Item) -> Made:
        try:
            # A copy: Pillow's pixels are read-only, and torch warns of that.
            picture = torch.from_numpy(_channels_first(_as_shown(item, decoding)).copy())
        except Exception as error:  # as above
            raise bad_images([BadImageError.of(reader.name(int(rows[position])), error)]) from error
        return work(position, picture)

    return list(_in_threads(reader, rows, decode_and_work))


def _in_threads(reader: ItemReader, rows: np.ndarray, work: Callable[[int, Item], Made]) -> Iterator[Made]:
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        for start in range(0, len(rows), 512):
            items = reader.read(rows[start : start + 512])
            yield from pool.map(work, range(start, start + len(items)), items)


def decode_pixels(item: Item, decoding: Decoding) -> np.ndarray:
    """One image as uint8 [C, S, S], turned as its EXIF tag says.

    An image that already has the size keeps its pixels, except with "eight_sevenths". 16-bit grey values lose
    their lower byte.

    Args:
        item: the undecoded image.
        decoding: its `resize` uses Pillow's bilinear filter with antialiasing.
            "shorter_side": the shorter side becomes S.
            "centre_crop": it becomes 8/7 of S, as ImageNet is commonly judged (256 and 224).
            "eight_sevenths" (RDED): it becomes S // 7 * 8 (256, 72, 32 for 224, 64, 32), even in an image of
            the size S. Then the centre is cut out. "square": both sides become S, whatever the shape.

    Raises:
        OSError, ValueError, SyntaxError: Pillow cannot read the bytes, or the image has, or would be enlarged
            to, too many pixels.
    """
    image = _as_shown(item, decoding)
    size, resize = decoding.image_size, decoding.resize
    width, height = image.size
    if (width, height) != (size, size) or resize == "eight_sevenths":
        new_width, new_height = resized_size((width, height), size, resize)
        refuse_large_image(new_width, new_height)  # a line of pixels whose shorter side is enlarged
        image = image.resize((new_width, new_height), Image.Resampling.BILINEAR)
        left, top = (new_width - size) // 2, (new_height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return _channels_first(image)


def shown_otherwise(image: Image.Image, transparency: Transparency) -> bool:
    """Whether an image is shown otherwise than its stored colours say: turned, or over a background.

    Looks at the header only. Pillow would decode a PNG to look for EXIF tags behind the pixels.
    """
    turned = "exif" in image.info and image.getexif().get(_ORIENTATION, 1) != 1
    return turned or (transparency != "ignore" and _is_transparent(image))


def _channels_first(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image)
    return pixels[None] if image.mode == "L" else pixels.transpose(2, 0, 1)


def resized_size(size: tuple[int, int], image_size: int, resize: Resize) -> tuple[int, int]:
    """Width and height before the centre is cut out."""
    if resize == "square":
        return image_size, image_size
    enlarged = {"centre_crop": image_size * 8 // 7, "eight_sevenths": max(image_size, image_size // 7 * 8)}
    shorter = enlarged.get(resize, image_size)
    scale = shorter / min(size)
    width, height = (max(shorter, round(side * scale)) for side in size)
    return width, height


def open_image(item: Item) -> Image.Image:
    """A Pillow image of the item. Of an encoded item only the header is read.

    Raises:
        OSError, ValueError, SyntaxError: not an image of FORMATS, or one with too many pixels.
        BadImageError: the item is one.
    """
    if isinstance(item, BadImageError):
        raise item
    image = (
        Image.open(io.BytesIO(item), formats=FORMATS) if isinstance(item, bytes) else Image.fromarray(item)
    )
    refuse_large_image(*image.size)
    return image


def is_grey(image: Image.Image) -> bool:
    """Whether an image is stored without colour."""
    return image.mode in ("1", "L", "LA") or image.mode.startswith("I")


def bad_images(bad: Sequence[BadImageError], *, limit: int | None = None) -> DataError:
    """The error for images that cannot be decoded. Names each, up to a number that can be read.

    Args:
        bad: at least one.
        limit: of dataset.max_bad_images, if there are more.
    """
    shown = [f"{one.name}: {one.problem}" for one in bad[:_MOST_LISTED]]
    if len(bad) > len(shown):
        shown.append(f"and {len(bad) - len(shown)} more")
    same = {one.advice for one in bad}
    advice = same.pop() if len(same) == 1 else "repair, remove or scale down each"
    way_out = "dataset.on_bad_image=skip" if limit is None else "a higher dataset.max_bad_images"
    above = "" if limit is None else f", more than dataset.max_bad_images={limit}"
    which = f"image {bad[0].name}" if len(bad) == 1 else f"{len(bad)} images"
    return DataError(
        f"cannot decode {which}{above}",
        found=bad[0].problem if len(bad) == 1 else "\n            ".join(shown),
        expected=f"{', '.join(FORMATS)} images, whole, of at most {MAX_IMAGE_PIXELS / 1e6:.0f} megapixels",
        next=f"{advice}, or set {way_out}",
    )


def _as_shown(item: Item, decoding: Decoding) -> Image.Image:
    """The whole picture in the mode of the decoding, as a viewer shows it."""
    image = open_image(item)
    if isinstance(item, bytes) and "exif" in image.info:  # what `shown_otherwise` looks at, no more
        image = ImageOps.exif_transpose(image)
    if decoding.transparency != "ignore" and _is_transparent(image):
        image = image.convert("RGBA")
        behind = Image.new("RGBA", image.size, decoding.transparency)
        image = Image.alpha_composite(behind, image)
    return _to_mode(image, decoding.mode)


def _is_transparent(image: Image.Image) -> bool:
    """Whether an image has a channel of opacity or a transparent colour. 16-bit grey counts as opaque."""
    return image.mode in ("RGBA", "LA", "PA") or (
        "transparency" in image.info and image.mode in ("1", "L", "P", "RGB")
    )


def _to_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow would clip 16-bit values at 255, which makes nearly everything white.
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("floating-point pixels")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)
