"""Images, tables and arrays as bytes, and back. Nothing is unpickled."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from edc_ray.artifacts.storage.limits import (
    MAX_DECODED_BYTES,
    read_member,
    refuse_inflated_zip,
    refuse_large_image,
)
from edc_ray.artifacts.tables.reader_process import prove
from edc_ray.errors import ArtifactError, EdcRayError

ImageFormat = Literal["png", "jpeg"]

_MAKE_AGAIN = "run the stage again; edc-ray verify lists all damaged files"


def encode_image(image: np.ndarray, format: ImageFormat = "png", quality: int = 75) -> bytes:
    """Encode uint8 [1 or 3, H, W] as PNG, or as JPEG of a quality from 1 to 100; else a ValueError."""
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
    """Decode an image to uint8 [C, H, W]: one channel if it is stored as grey, else three.

    Raises:
        ArtifactError: it cannot be decoded, or claims more than MAX_IMAGE_PIXELS; names `url`.
    """
    try:
        # Some other formats of Pillow start programs.
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            refuse_large_image(*image.size)
            pixels = np.array(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    except Exception as error:  # damage shows in many ways
        found = f"{type(error).__name__}: {error}"
        raise ArtifactError(
            f"{url} cannot be decoded", found=found, expected="a PNG or JPEG image"
        ) from error
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def decode_images(encoded: Sequence[bytes | None], *, url: str) -> np.ndarray:
    """Decode images of one size to uint8 [N, C, H, W].

    Raises:
        ArtifactError: one cannot be decoded, sizes differ, or they exceed MAX_DECODED_BYTES; names `url`.
    """
    images: list[np.ndarray] = []
    for row, data in enumerate(encoded):
        images.append(decode_image(data or b"", url=f"{url}, image {row}"))
        if images[row].shape != images[0].shape:
            raise ArtifactError(f"{url} holds images of several sizes", expected="one size")
        if images[0].nbytes * len(encoded) > MAX_DECODED_BYTES:
            raise ArtifactError(f"{url} holds too many pixels", expected=f"at most {MAX_DECODED_BYTES} bytes")
    return np.stack(images) if images else np.zeros((0, 0, 0, 0), np.uint8)


def table_to_bytes(table: pa.Table, *, rows_per_group: int | None = None, split_floats: bool = True) -> bytes:
    """A table as a Parquet file, packed with zstd.

    Args:
        table: to write.
        rows_per_group: of each row group but the last; None: pyarrow's default.
        split_floats: store lists of floats and halves with split bytes. DuckDB 2.0 cannot read split halves.
    """
    nested = [field.name for field in table.schema if pa.types.is_nested(field.type)]
    floats = [name for name in nested if _holds_floats(table.schema.field(name).type)]
    halves = [field.name for field in table.schema if field.type == pa.float16()]
    packed = [field.name for field in table.schema if pa.types.is_binary(field.type)]
    others = {*nested, *halves, *packed}
    options: dict[str, Any] = {
        "use_dictionary": [name for name in table.column_names if name not in others],
        # 10% smaller for fp16 logits.
        "use_byte_stream_split": [*(f"{name}.list.element" for name in floats), *halves] * split_floats,
    }
    if packed:  # else four bytes of length between those of one row and the next
        options["column_encoding"] = dict.fromkeys(packed, "DELTA_LENGTH_BYTE_ARRAY")
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=rows_per_group, **options)
    return sink.getvalue().to_pybytes()


def table_from_bytes(
    data: bytes,
    *,
    url: str,
    ours: bool = False,
    columns: Collection[str] | None = None,
    next: str = _MAKE_AGAIN,
) -> pa.Table:
    """A table from a Parquet file.

    Args:
        data: the file.
        url: its name in errors.
        ours: see `Store.is_ours`. Any other file is proven in the reader process first.
        columns: the only ones that are read, or fields of them (`image.bytes`); None: all.
        next: what an error says to do about a damaged file.

    Raises:
        ArtifactError: it is damaged, or larger in memory than an honest file is; names `url`.
    """
    with _naming(data, url, next):
        if not ours:
            prove(len(data), [(0, data)], columns=columns)
        with pq.ParquetFile(pa.BufferReader(data)) as parquet:
            table = parquet.read(columns=None if columns is None else list(columns))
        table.validate(full=True)
        return table


def schema_from_bytes(data: bytes, *, url: str, next: str = _MAKE_AGAIN) -> pa.Schema:
    """The columns of a Parquet file of others; arguments and errors as of `table_from_bytes`."""
    with _naming(data, url, next):
        prove(len(data), [(0, data)], groups=())
        return pq.read_schema(pa.BufferReader(data))


@contextmanager
def _naming(data: bytes, url: str, next: str) -> Iterator[None]:
    """Errors of a Parquet file name it."""
    try:
        yield
    except EdcRayError:
        raise
    except Exception as error:  # Arrow raises TypeError, KeyError and others besides its own
        raise ArtifactError(
            f"{url} is damaged",
            found=f"{len(data)} bytes; {error}",
            expected="a whole Parquet file",
            next=next,
        ) from error


def arrays_to_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Named arrays as an npz file. The same arrays give the same bytes. Python objects: a ValueError."""
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
        ArtifactError: it is damaged, claims more bytes than it has, or holds Python objects; names `url`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            refuse_inflated_zip(members, len(data))
            arrays = {one.filename.removesuffix(".npy"): _array(read_member(archive, one)) for one in members}
        if len(arrays) < len(members):
            raise ValueError("two arrays of one name")
        return arrays
    except Exception as error:  # damage shows in many ways: zlib.error, NotImplementedError, ...
        found = f"{len(data)} bytes; {type(error).__name__}: {error}"
        raise ArtifactError(f"{url} is damaged", found=found, expected="a whole npz file") from error


def _array(content: bytes) -> np.ndarray:
    """An array of an npy file. numpy itself would allocate whatever the header claims."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version > (2, 0):
        raise ValueError(f"version {version} of npy")
    read_header = np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read_header[version[0] - 1](file)
    if dtype.hasobject:
        raise ValueError("Python objects")
    held, claimed = len(content) - file.tell(), math.prod(shape) * dtype.itemsize
    if held != claimed:
        raise ValueError(f"{held} bytes of an array of {claimed}")
    flat = np.frombuffer(content, dtype, math.prod(shape), file.tell())
    return flat.reshape(shape, order="F" if fortran_order else "C").copy(order="K")


def _holds_floats(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and pa.types.is_floating(kind.value_type)
