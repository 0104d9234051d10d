"""Images, tables and arrays as bytes, and back. Nothing is ever unpickled."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from edc_ray.errors import ArtifactError

ImageFormat = Literal["png", "jpeg"]


def encode_image(image: np.ndarray, format: ImageFormat = "png", quality: int = 75) -> bytes:
    """Encode a uint8 image of 1 or 3 channels.

    Args:
        image: uint8 [C, H, W].
        format: "png" (lossless) or "jpeg".
        quality: of JPEG, 1 to 100.

    Raises:
        ValueError: not such an image, or an unknown format.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"an image is uint8 [1 or 3, H, W], got {image.dtype} {list(image.shape)}")
    if format not in ("png", "jpeg"):
        raise ValueError(f"an image format is png or jpeg, got {format!r}")
    pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    buffer = io.BytesIO()
    options = {"quality": quality} if format == "jpeg" else {}
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format=format, **options)
    return buffer.getvalue()


def decode_image(data: bytes, *, url: str = "an image") -> np.ndarray:
    """Decode an image to uint8 [C, H, W]: one channel where it is stored as grey, else three.

    Raises:
        ArtifactError: it cannot be decoded; the message names `url`.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.array(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        found = f"{type(error).__name__}: {error}"
        raise ArtifactError(
            f"{url} cannot be decoded", found=found, expected="a PNG or JPEG image"
        ) from error
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def table_to_bytes(table: pa.Table, *, rows_per_group: int | None = None) -> bytes:
    """A table as a Parquet file: zstd; dictionaries for plain columns, split bytes for lists of floats and
    for halves, lengths apart for bytes."""
    nested = [field.name for field in table.schema if pa.types.is_nested(field.type)]
    floats = [name for name in nested if _holds_floats(table.schema.field(name).type)]
    halves = [field.name for field in table.schema if field.type == pa.float16()]
    packed = [field.name for field in table.schema if pa.types.is_binary(field.type)]
    others = {*nested, *halves, *packed}
    options: dict[str, Any] = {
        "use_dictionary": [name for name in table.column_names if name not in others],
        # 10% smaller for fp16 logits.
        "use_byte_stream_split": [*(f"{name}.list.element" for name in floats), *halves],
    }
    if packed:  # else four bytes of length between those of one row and the next
        options["column_encoding"] = dict.fromkeys(packed, "DELTA_LENGTH_BYTE_ARRAY")
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=rows_per_group, **options)
    return sink.getvalue().to_pybytes()


def table_from_bytes(data: bytes, *, url: str) -> pa.Table:
    """A table from a Parquet file.

    Raises:
        ArtifactError: it is truncated or no Parquet file; the message names `url`.
    """
    try:
        return pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        found = f"{len(data)} bytes; {error}"
        hint = "run the stage again; edc-ray verify lists all damaged files"
        raise ArtifactError(
            f"{url} is damaged", found=found, expected="a whole Parquet file", next=hint
        ) from error


def arrays_to_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Named arrays as an npz file. The same arrays in the same order give the same bytes.

    Raises:
        ValueError: an array of Python objects.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")  # carries a fixed date, np.savez refuses some names
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
    return buffer.getvalue()


def arrays_from_bytes(data: bytes, *, url: str) -> dict[str, np.ndarray]:
    """Named arrays from an npz file.

    Raises:
        ArtifactError: it is truncated, no npz file, or holds Python objects; the message names `url`.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, TypeError, AttributeError) as error:
        found = f"{len(data)} bytes; {type(error).__name__}: {error}"
        raise ArtifactError(f"{url} is damaged", found=found, expected="a whole npz file") from error


def _holds_floats(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and pa.types.is_floating(kind.value_type)
