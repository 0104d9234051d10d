"""The largest files that are read. Larger ones are refused before they are read or decoded.

Others may have filled the folders that are read, and a few bytes can claim to be gigabytes.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable

MAX_JSON_BYTES = 128 * 2**20
"""Of a record or manifest. 200 images of each of 1,000 classes take 16 MiB."""
MAX_CONFIG_BYTES = 2 * 2**20
"""Of run.yaml and data.json; the names of 21,000 classes take less than one MiB."""
MAX_LOG_BYTES = 256 * 2**20
"""Of events.jsonl."""
MAX_ARRAYS_BYTES = 256 * 2**20
"""Of an official file of statistics: four rows of numbers of one layer."""
MAX_BATCH_BYTES = 2**30
"""Of an official label file; 1,024 labels of 21,000 classes take 86 MiB."""
MAX_TABLE_BYTES = 8 * 2**30
"""Of a Parquet file that is read whole."""
MAX_IMAGE_BYTES = 256 * 2**20
"""Of one image file."""
MAX_IMAGE_PIXELS = 2**26
"""Of one image, from its header and after it was enlarged; Pillow itself warns above 85 * 2**20."""
MAX_DECODED_BYTES = 8 * 2**30
"""Of everything that a file turns into: a table, its decoded images, arrays."""
FREE_BYTES = 64 * 2**20
MAX_RATIO = 1000
"""Above FREE_BYTES a file may turn into this many times its size. Only zeros and the like grow further."""


def most_decoded(stored: int) -> int:
    """Bytes that a file of this many bytes may turn into."""
    return min(MAX_DECODED_BYTES, max(FREE_BYTES, MAX_RATIO * stored))


def refuse_inflated(claimed: int, stored: int) -> None:
    """Refuse by a ValueError a size that no honest file of this many bytes has: see `most_decoded`."""
    if claimed < 0 or claimed > most_decoded(stored):
        raise ValueError(f"{stored} bytes that claim to be {claimed}")


class TooManyPixelsError(ValueError):
    """An image is larger than MAX_IMAGE_PIXELS."""


def refuse_large_image(width: int, height: int) -> None:
    """Refuse an image by a TooManyPixelsError, before its pixels are decoded."""
    if width * height > MAX_IMAGE_PIXELS:
        raise TooManyPixelsError(f"{width}x{height} pixels are more than {MAX_IMAGE_PIXELS}")


def refuse_inflated_zip(members: Iterable[zipfile.ZipInfo], stored: int) -> None:
    """As `refuse_inflated`, for the members of a zip. Each member counts, even if they overlap."""
    refuse_inflated(sum(member.file_size for member in members), stored)


def read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The content of a member. No more is unpacked than the zip's directory states.

    Raises:
        ValueError, zipfile.BadZipFile, zlib.error: it is damaged, or cannot be unpacked in parts.
    """
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename} is packed by the method {member.compress_type}")
    with archive.open(member) as file:
        data = file.read(member.file_size)  # `archive.read` unpacks up to 2 GiB and then cuts
    if len(data) != member.file_size:
        raise ValueError(f"{member.filename} is cut short")
    return data
