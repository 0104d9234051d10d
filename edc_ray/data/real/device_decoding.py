"""JPEG files decoded and resized on a device, many at once, by torchvision: on CUDA by nvJPEG.

Deviations:
    Pixels are within a few grey levels of Pillow's: the inverse transform and the colours between stored ones
    are computed otherwise, and a resized image is rounded once, not twice.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from edc_ray.artifacts.storage.limits import refuse_large_image
from edc_ray.core.pixels import from_uint8, to_uint8
from edc_ray.data.real.undecoded import (
    Decoding,
    Item,
    ItemReader,
    decode_rows,
    map_rows,
    open_image,
    resized_size,
    shown_otherwise,
)
from edc_ray.errors import ResourceError

Made = TypeVar("Made")

_FILES_AT_ONCE, _PIXELS_AT_ONCE = 256, 1 << 25
_END_OF_JPEG = b"\xff\xd9"


def decode_rows_on(device: torch.device, reader: ItemReader, rows: np.ndarray, decoding: Decoding) -> Tensor:
    """As `decode_rows`, with the plain JPEG files decoded on the device. Pillow decodes all others.

    Returns:
        uint8 [n, C, S, S] on the device, in the order of `rows`.

    Raises:
        DataError: images are corrupt; the error names them.
        ResourceError: the device cannot decode JPEG files.
    """
    size = decoding.image_size
    images = torch.empty((len(rows), decoding.channels, size, size), dtype=torch.uint8, device=device)
    left = np.ones(len(rows), bool)
    for found in _jpeg_pictures(device, reader, rows, decoding):
        of_shape: defaultdict[torch.Size, list[int]] = defaultdict(list)
        for position, picture in found.items():
            of_shape[picture.shape].append(position)
        for positions in of_shape.values():
            squares = _squares(torch.stack([found[position] for position in positions]), decoding)
            images[torch.tensor(positions, device=device)] = squares
        left[list(found)] = False
    others = np.flatnonzero(left)
    if len(others):
        decoded = torch.from_numpy(decode_rows(reader, rows[others], decoding))
        images[torch.from_numpy(others).to(device)] = decoded.to(device)
    return images


def map_rows_on(
    device: torch.device,
    reader: ItemReader,
    rows: np.ndarray,
    work: Callable[[int, Tensor], Made],
    decoding: Decoding,
) -> list[Made]:
    """As `map_rows`, with the plain JPEG files decoded on the device. All pictures lie there.

    `work` is done in the caller's thread, whose stream the device then follows.

    Raises:
        DataError, ResourceError: as `decode_rows_on`.
    """
    made: dict[int, Made] = {}
    for found in _jpeg_pictures(device, reader, rows, decoding):
        made |= {position: work(position, picture) for position, picture in found.items()}
    others = [position for position in range(len(rows)) if position not in made]
    by_pillow = map_rows(reader, rows[others], lambda _, picture: picture, decoding)
    for position, picture in zip(others, by_pillow, strict=True):
        made[position] = work(position, picture.to(device))
    return [made[position] for position in range(len(rows))]


def check_device_decoder(device: torch.device) -> None:
    """Raise a ResourceError if torchvision cannot decode JPEG files on a device."""
    data = io.BytesIO()
    Image.new("RGB", (16, 16)).save(data, "JPEG")
    try:
        _decode([data.getvalue()], device, "RGB")
    except Exception as error:  # a build without the decoder, or without its library
        raise ResourceError(
            "dataset.decoder=device: torchvision decodes no JPEG files on this device",
            found=str(error).strip().partition("\n")[0],
            expected="a build of torchvision with nvJPEG, and the driver that it needs",
            next="set dataset.decoder=pillow",
        ) from error


_checked = cache(check_device_decoder)


def _jpeg_pictures(
    device: torch.device, reader: ItemReader, rows: np.ndarray, decoding: Decoding
) -> Iterator[dict[int, Tensor]]:
    """Pictures of plain JPEG files by their position in `rows`, uint8 [C, H, W], some hundred at a time."""
    _checked(device)  # a missing decoder must not look like damaged files
    for first in range(0, len(rows), _FILES_AT_ONCE):
        plain: dict[int, bytes] = {}
        pixels = 0
        for position, item in enumerate(reader.read(rows[first : first + _FILES_AT_ONCE]), first):
            own = _plain_pixels(item, decoding)
            if pixels + own > _PIXELS_AT_ONCE:
                yield _decoded(plain, device, decoding.mode)
                plain, pixels = {}, 0
            if own:
                assert isinstance(item, bytes)
                plain[position] = item
                pixels += own
        yield _decoded(plain, device, decoding.mode)


def _decoded(plain: dict[int, bytes], device: torch.device, mode: str) -> dict[int, Tensor]:
    """The pictures of files, without those that the device cannot decode: Pillow will say what is wrong."""
    try:
        return dict(zip(plain, _decode(list(plain.values()), device, mode), strict=True))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:  # of one file; of which, is not said
        if len(plain) == 1:
            return {}
    found: dict[int, Tensor] = {}
    for position, file in plain.items():
        found |= _decoded({position: file}, device, mode)
    return found


def _decode(files: Sequence[bytes], device: torch.device, mode: str) -> list[Tensor]:
    from torchvision.io import ImageReadMode, decode_jpeg  # slow to import, and few runs need it

    if not files:
        return []
    if device.type == "cuda":
        # torchvision decodes on a stream of its own. It must not write memory that this one still reads.
        torch.cuda.current_stream(device).synchronize()
    wanted = ImageReadMode.RGB if mode == "RGB" else ImageReadMode.GRAY
    data = [torch.frombuffer(bytearray(each), dtype=torch.uint8) for each in files]
    return decode_jpeg(data, mode=wanted, device=device)  # type: ignore[return-value]


def _plain_pixels(item: Item, decoding: Decoding) -> int:
    """The pixels of a file that holds a whole JPEG of the wanted colours, shown as it is stored; else 0."""
    if not isinstance(item, bytes):
        return 0
    try:
        image = open_image(item)
        refuse_large_image(*resized_size(image.size, decoding.image_size, decoding.resize))
    except Exception:  # Pillow will say what is wrong
        return 0
    is_plain = (
        image.format == "JPEG"
        and image.mode == decoding.mode
        and image.info.get("adobe_transform") != 0  # colours that are stored as they are
        and item.rstrip(b"\0").endswith(_END_OF_JPEG)
        and not shown_otherwise(image, decoding.transparency)
    )
    return image.width * image.height if is_plain else 0


def _squares(pictures_NCHW: Tensor, decoding: Decoding) -> Tensor:
    """Pictures of one shape in the size of the set: see `decode_pixels`."""
    height, width = pictures_NCHW.shape[-2:]
    size = decoding.image_size
    if (width, height) == (size, size) and decoding.resize != "eight_sevenths":
        return pictures_NCHW
    new_width, new_height = resized_size((width, height), size, decoding.resize)
    pixels = F.interpolate(
        from_uint8(pictures_NCHW), (new_height, new_width), mode="bilinear", antialias=True
    )
    left, top = (new_width - size) // 2, (new_height - size) // 2
    return to_uint8(pixels[..., top : top + size, left : left + size], "round")
