"""Parquet files in the layout of Hugging Face image datasets."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from fsspec import AbstractFileSystem

from edc_ray.artifacts.tables.parquet_groups import ParquetGroups, Ranges
from edc_ray.data.real.undecoded import Item, UndecodedImages
from edc_ray.errors import DataError, EdcRayError

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels", "fine_label")
_ROLE_PREFIXES = {"train": ("train",), "val": ("val", "test")}
_CACHED_ROW_GROUPS = 4


@dataclass(frozen=True)
class RowGroup:
    """A row group: the unit in which a Parquet file can be read."""

    path: str
    index: int
    num_rows: int
    num_bytes: int


class ParquetReader:
    """Rows of Parquet files, read one row group at a time; the last few are kept, and all footers.

    Rows that lie close together are cheap; scattered ones each cost a row group.
    """

    def __init__(self, filesystem: AbstractFileSystem, groups: Sequence[RowGroup], column: str) -> None:
        self._filesystem = filesystem
        self._groups = tuple(groups)
        self._column = column
        self._ends = np.cumsum([group.num_rows for group in groups])
        self._cache: dict[int, list[bytes | None]] = {}
        self._files: dict[str, ParquetGroups] = {}
        self.total_bytes = sum(group.num_bytes for group in groups)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}, "_files": {}}

    def read(self, rows: Sequence[int] | np.ndarray) -> list[Item]:
        """See ItemReader."""
        wanted = np.asarray(rows, dtype=np.int64)
        items: list[Item] = [b""] * len(wanted)
        positions = np.searchsorted(self._ends, wanted, side="right")
        for position in np.unique(positions):
            group = self._read_group(int(position))
            first = int(self._ends[position]) - len(group)
            for slot in np.flatnonzero(positions == position):
                data = group[int(wanted[slot]) - first]
                if data is None:
                    raise DataError(
                        f"no image bytes in {self.name(int(wanted[slot]))}",
                        expected="the images stored inside the Parquet file, not beside it",
                    )
                items[slot] = data
        return items

    def _read_group(self, position: int) -> list[bytes | None]:
        if position not in self._cache:
            group = self._groups[position]
            try:
                # A footer is as long as there are row groups: to read it for each takes the square.
                if group.path not in self._files:
                    self._files[group.path] = _opened(self._filesystem, group.path)
                file = self._files[group.path]
                table = file.read([group.index], [encoded_leaf(file.schema, self._column)])
            except EdcRayError:
                raise
            except Exception as error:  # Arrow raises TypeError and others besides its own
                raise _damaged(group.path, error) from error
            column = table.column(self._column).combine_chunks()
            if pa.types.is_struct(column.type):
                column = column.field("bytes")
            while len(self._cache) >= _CACHED_ROW_GROUPS:
                del self._cache[next(iter(self._cache))]
            self._cache[position] = column.to_pylist()
        return self._cache[position]

    def name(self, row: int) -> str:
        """See ItemReader; the row counts from the start of its file."""
        position = int(np.searchsorted(self._ends, row, side="right"))
        path = self._groups[position].path
        start = sum(group.num_rows for group in self._groups[:position] if group.path != path)
        return f"{path} row {row - start}"

    def digest(self, rows: np.ndarray) -> bytes:
        """See ItemReader; covers file names and sizes of row groups, not the bytes of the images."""
        parts = [(posixpath.basename(g.path), g.index, g.num_rows, g.num_bytes) for g in self._groups]
        return hashlib.sha256(repr(parts).encode() + np.asarray(rows, "<i8").tobytes()).digest()

    def files(self) -> set[str]:
        """See ItemReader."""
        return {self._filesystem.unstrip_protocol(group.path) for group in self._groups}


def choose_split(paths: Sequence[str], role: str) -> list[str]:
    """Files of one split where the names begin with splits (train-00000-of-00001.parquet), else all.

    Args:
        paths: Parquet files of one folder.
        role: "train" or "val"; validation takes files named validation, else files named test.

    Returns:
        The chosen ones, sorted. Both roles may get the same files: `open_dataset` refuses that.
    """
    every = tuple(prefix for prefixes in _ROLE_PREFIXES.values() for prefix in prefixes)
    names = {path: posixpath.basename(path).lower() for path in sorted(paths)}
    if not all(name.startswith(every) for name in names.values()):
        return list(names)
    for prefix in _ROLE_PREFIXES[role]:
        chosen = [path for path, name in names.items() if name.startswith(prefix)]
        if chosen:
            return chosen
    return list(names)


def read_parquet(filesystem: AbstractFileSystem, paths: Sequence[str], source: str) -> UndecodedImages:
    """Images and labels of Parquet files; the images themselves are left in the files.

    Args:
        filesystem: where the files are.
        paths: the files, in order.
        source: what errors call them.

    Raises:
        DataError: a file is damaged, has no image or label column, or the files disagree on the classes.
    """
    groups: list[RowGroup] = []
    labels: list[np.ndarray] = []
    names: dict[str, tuple[str, ...] | None] = {}
    column = ""
    for path in paths:
        try:
            file = _opened(filesystem, path)
            column, label_column = _columns(file.schema, path)
            groups += _row_groups(file, path, column)
            every = range(file.metadata.num_row_groups)
            labels.append(_labels(file.read(every, [label_column]).column(0), path))
            names[path] = class_names_of(file.schema, label_column)
        except EdcRayError:
            raise
        except Exception as error:  # as above
            raise _damaged(path, error) from error
    if len(set(names.values())) > 1:
        raise DataError(f"the Parquet files of {source} name different classes", found=", ".join(names))
    class_names = next(iter(names.values()))
    all_labels = np.concatenate(labels)
    if all_labels.dtype.kind == "U":
        unique, all_labels = np.unique(all_labels, return_inverse=True)
        class_names = tuple(str(name) for name in unique)
    reader = ParquetReader(filesystem, groups, column)
    return UndecodedImages(reader, np.arange(len(reader)), all_labels.astype(np.int64), class_names, source)


def _damaged(path: str, error: Exception) -> DataError:
    found = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(
        f"cannot read {path}", found=found, expected="a whole Parquet file", next="fetch or write it again"
    )


def _columns(schema: pa.Schema, path: str) -> tuple[str, str]:
    image = next((name for name in IMAGE_COLUMNS if name in schema.names), None)
    label = next((name for name in LABEL_COLUMNS if name in schema.names), None)
    if image is None or label is None:
        raise DataError(
            f"{path} is not a labelled image dataset",
            found=f"columns {', '.join(schema.names)}",
            expected=f"an image column ({' or '.join(IMAGE_COLUMNS)}) and a label column "
            f"({' or '.join(LABEL_COLUMNS)})",
        )
    if not holds_images(schema, image):
        raise DataError(
            f"column '{image}' of {path} holds no encoded images",
            found=str(schema.field(image).type),
            expected="struct<bytes: binary, path: string> or binary",
        )
    return image, label


def holds_images(schema: pa.Schema, column: str) -> bool:
    """Whether a column is of encoded images: bytes, or structs that have some."""
    kind = schema.field(column).type
    if _has_bytes(kind):
        kind = kind.field("bytes").type
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def encoded_leaf(schema: pa.Schema, column: str) -> str:
    """What is read of a column for its encoded images: the field of the bytes, without that of the paths."""
    return f"{column}.bytes" if _has_bytes(schema.field(column).type) else column


def _has_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0


def _row_groups(file: ParquetGroups, path: str, column: str) -> list[RowGroup]:
    groups = []
    for index in range(file.metadata.num_row_groups):
        size = sum(chunk.total_uncompressed_size for chunk in file.chunks(index, [column]))
        groups.append(RowGroup(path, index, file.metadata.row_group(index).num_rows, size))
    return groups


def _opened(filesystem: AbstractFileSystem, path: str) -> ParquetGroups:
    size = filesystem.size(path)
    if size is None:
        raise ValueError("a storage that does not tell how long it is")
    # A file system that is not asynchronous opens a file for each range, which would read ahead.
    options = {} if filesystem.async_impl else {"cache_type": "none"}

    def fetch(ranges: Ranges) -> list[bytes]:
        starts, ends = [start for start, _ in ranges], [start + number for start, number in ranges]
        paths = [path] * len(ranges)
        return filesystem.cat_ranges(paths, starts=starts, ends=ends, on_error="raise", **options)

    return ParquetGroups(fetch, size)


def _labels(column: pa.ChunkedArray, path: str) -> np.ndarray:
    if column.null_count:
        raise DataError(f"{column.null_count} rows of {path} have no label")
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_integer(kind):
        return column.to_numpy().astype(np.int64)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.asarray(column.to_pylist(), dtype=np.str_)
    raise DataError(f"labels of {path} are neither integers nor names", found=str(column.type))


def class_names_of(schema: pa.Schema, label_column: str) -> tuple[str, ...] | None:
    """Names in a schema of the `datasets` library, by label; None where it has none."""
    text = (schema.metadata or {}).get(b"huggingface")
    try:
        names = json.loads(text or b"")["info"]["features"][label_column]["names"]
        # Older files of the `datasets` library hold {"0": name, ...}.
        ordered = [names[key] for key in sorted(names, key=int)] if isinstance(names, dict) else names
        return tuple(str(name) for name in ordered)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
