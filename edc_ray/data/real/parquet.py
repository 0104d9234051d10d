"""Parquet files in the layout of Hugging Face image datasets."""

from __future__ import annotations

import hashlib
import json
import logging
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
from fsspec import AbstractFileSystem

from edc_ray.artifacts.tables.parquet_groups import ParquetGroups, Ranges
from edc_ray.data.real.other_kinds import refuse_other_kinds
from edc_ray.data.real.splits import split_of
from edc_ray.data.real.undecoded import BadImageError, Item, UndecodedImages
from edc_ray.errors import DataError, EdcRayError

IMAGE_COLUMNS = ("image", "img", "jpg", "jpeg", "png", "webp", "picture")
LABEL_COLUMNS = (
    "label", "labels", "fine_label", "class", "class_id", "cls", "target", "targets", "category",
    "coarse_label",
)  # fmt: skip
_SPLIT_COLUMNS = (
    "split",
    "subset",
    "partition",
    "set",
    "usage",
    "phase",
    "fold",
    "is_train",
    "is_test",
    "train",
)
_SPLIT_FLAGS = ("is_train", "is_test", "train")
_CACHED_ROW_GROUPS = 4
_STORE_INSIDE = "store the images inside the Parquet file, not beside it"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowGroup:
    """A row group: the unit in which a Parquet file can be read. `column` has the images."""

    path: str
    index: int
    num_rows: int
    num_bytes: int
    column: str


class ParquetReader:
    """Rows of Parquet files, read one row group at a time; the last few are kept, and all footers.

    Rows that lie close together are cheap; scattered ones each cost a row group. Threads may share a reader.
    """

    def __init__(self, filesystem: AbstractFileSystem, groups: Sequence[RowGroup]) -> None:
        self._filesystem = filesystem
        self._groups = tuple(groups)
        self._ends = np.cumsum([group.num_rows for group in groups])
        self._cache: dict[int, list[bytes | None]] = {}
        self._files: dict[str, ParquetGroups] = {}
        self._lock = Lock()
        self.total_bytes = sum(group.num_bytes for group in groups)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}, "_files": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state | {"_lock": Lock()}

    def read(self, rows: Sequence[int] | np.ndarray) -> list[Item]:
        """See ItemReader."""
        wanted = np.asarray(rows, dtype=np.int64)
        items: list[Item] = [b""] * len(wanted)
        positions = np.searchsorted(self._ends, wanted, side="right")
        for position in np.unique(positions):
            with self._lock:
                group = self._read_group(int(position))
            first = int(self._ends[position]) - len(group)
            for slot in np.flatnonzero(positions == position):
                row = int(wanted[slot])
                data = group[row - first]
                if data is None:
                    items[slot] = BadImageError(self.name(row), "no bytes", _STORE_INSIDE)
                else:
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
                table = file.read([group.index], [encoded_leaf(file.schema, group.column)])
            except EdcRayError:
                raise
            except Exception as error:  # Arrow raises TypeError and others besides its own
                raise _damaged(group.path, error) from error
            column = table.column(group.column).combine_chunks()
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


def read_parquet(
    filesystem: AbstractFileSystem,
    paths: Sequence[str],
    source: str,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
) -> UndecodedImages:
    """Images and labels of Parquet files; the images themselves are left in the files.

    Args:
        filesystem: where the files are.
        paths: the files, in order.
        source: what errors call them.
        image_column, label_column: their names. None: the first of IMAGE_COLUMNS and of LABEL_COLUMNS that a
            file has, in upper or lower case.

    Raises:
        DataError: a file is damaged, has no such column, has rows of several splits, or the files disagree on
            the classes.
    """
    groups: list[RowGroup] = []
    labels: list[np.ndarray] = []
    names: dict[str, tuple[str, ...] | None] = {}
    told: set[str] = set()
    splits: dict[str, set[object]] = {}
    for path in paths:
        try:
            file = _opened(filesystem, path)
            images = _column(file.schema, path, "image", image_column, IMAGE_COLUMNS, told)
            labelled = _column(file.schema, path, "label", label_column, LABEL_COLUMNS, told)
            _refuse_without_bytes(file.schema, images, path)
            groups += _row_groups(file, path, images)
            every = range(file.metadata.num_row_groups)
            for column in file.schema.names:
                if column.lower() in _SPLIT_COLUMNS and column not in (images, labelled):
                    found = file.read(every, [column]).column(0).unique().to_pylist()
                    splits.setdefault(column, set()).update(found)
            labels.append(_labels(file.read(every, [labelled]).column(0), path))
            names[path] = class_names_of(file.schema, labelled)
        except EdcRayError:
            raise
        except Exception as error:  # as above
            refuse_other_kinds(filesystem, path)
            raise _damaged(path, error) from error
    _refuse_splits_in_rows(splits, source)
    all_labels, class_names = _joined(labels, names, source)
    reader = ParquetReader(filesystem, groups)
    return UndecodedImages(reader, np.arange(len(reader)), all_labels, class_names, source)


def _joined(
    labels: Sequence[np.ndarray], names: dict[str, tuple[str, ...] | None], source: str
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The labels of all files, int64, and the names of the classes."""
    if len(set(names.values())) > 1:
        raise DataError(f"the Parquet files of {source} name different classes", found=", ".join(names))
    texts = [path for path, part in zip(names, labels, strict=True) if part.dtype.kind == "U"]
    if texts and len(texts) < len(names):
        number = next(path for path in names if path not in texts)
        raise DataError(
            f"the labels of {source} are of two kinds",
            found=f"names in {texts[0]}, integers in {number}",
            expected="one kind in all files",
            next="write the files again, or choose the files of one kind in dataset.train",
        )
    joined = np.concatenate(labels)
    if not texts:
        return joined.astype(np.int64), next(iter(names.values()))
    unique, numbers = np.unique(joined, return_inverse=True)
    return numbers.astype(np.int64), tuple(str(name) for name in unique)


def _damaged(path: str, error: Exception) -> DataError:
    found = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(
        f"cannot read {path}", found=found, expected="a whole Parquet file", next="fetch or write it again"
    )


def _column(
    schema: pa.Schema, path: str, kind: str, given: str | None, known: Sequence[str], told: set[str]
) -> str:
    """The name of the column of images or of labels."""
    if given is not None:
        if given in schema.names:
            return given
        raise DataError(
            f"{path} has no column '{given}'",
            found=f"columns {', '.join(schema.names)}",
            expected=f"the column that dataset.{kind}_column names",
        )
    lower = {name.lower(): name for name in reversed(schema.names)}
    found = [lower[name] for name in known if name in lower]
    if not found:
        raise DataError(
            f"{path} is not a labelled image dataset: no column of {kind}s",
            found=f"columns {', '.join(schema.names)}",
            expected=f"a column named {', '.join(known)}",
            next=f"name it in dataset.{kind}_column",
        )
    others = ", ".join(f"'{name}'" for name in found[1:])
    message = f"takes '{found[0]}' for the {kind}s, not {others} (dataset.{kind}_column)"
    if others and message not in told:
        told.add(message)
        _log.warning("%s: %s", path, message)
    return found[0]


def _refuse_without_bytes(schema: pa.Schema, image: str, path: str) -> None:
    if holds_images(schema, image):
        return
    kind = schema.field(image).type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    raise DataError(
        f"column '{image}' of {path} holds no encoded images",
        found=f"{kind}" + (": paths, URLs or base64" if text else ""),
        expected="the bytes of PNG, JPEG or WebP files: binary, or struct<bytes: binary, path: string>",
        next="store the images themselves: Dataset.cast_column(NAME, datasets.Image()), then to_parquet",
    )


def holds_images(schema: pa.Schema, column: str) -> bool:
    """Whether a column is of encoded images: bytes, or structs that have some."""
    kind = schema.field(column).type
    if _has_bytes(kind):
        kind = kind.field("bytes").type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def encoded_leaf(schema: pa.Schema, column: str) -> str:
    """What is read of a column for its encoded images: the field of the bytes, without that of the paths."""
    return f"{column}.bytes" if _has_bytes(schema.field(column).type) else column


def _has_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0


def _row_groups(file: ParquetGroups, path: str, column: str) -> list[RowGroup]:
    groups = []
    for index in range(file.metadata.num_row_groups):
        size = sum(chunk.total_uncompressed_size for chunk in file.chunks(index, [column]))
        groups.append(RowGroup(path, index, file.metadata.row_group(index).num_rows, size, column))
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
    """int64 or str [N]."""
    _refuse_missing(column.null_count, len(column), path)
    if pa.types.is_dictionary(column.type):
        column = pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks])
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        names = column.to_pylist()
        _refuse_missing(sum(not name.strip() for name in names), len(names), path)
        return np.asarray(names, dtype=np.str_)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind) or pa.types.is_floating(kind):
        numbers = column.to_numpy()
        _refuse_missing(int((numbers != numbers).sum()), len(numbers), path)  # not a number
        with np.errstate(invalid="ignore"):  # infinity, which the comparison refuses
            whole = numbers.astype(np.int64)
        too_large = numbers.dtype == np.uint64 and whole.min(initial=0) < 0
        if not too_large and np.array_equal(whole.astype(numbers.dtype), numbers):
            return whole
    raise DataError(
        f"labels of {path} are neither integers nor names",
        found=str(kind),
        expected="one integer or one name for each image",
        next="choose another column in dataset.label_column",
    )


def _refuse_splits_in_rows(splits: Mapping[str, set[object]], source: str) -> None:
    """Refuse rows of several splits, in one file or in several; `splits` are the values of columns.

    Says that a column may tell splits where its values do not.
    """
    for name, found in splits.items():
        values = sorted(map(str, found))
        if len(values) < 2:
            continue
        shown = ", ".join(values[:5])
        is_flag = name.lower() in _SPLIT_FLAGS and found <= {True, False}
        if is_flag or len({split_of(value) for value in values} - {None}) > 1:
            raise DataError(
                f"the rows of {source} are of several splits",
                found=f"{shown} in column '{name}'",
                expected="a file for each split",
                next=f"write each split to a file of its own, or remove the column '{name}' to use all rows",
            )
        _log.warning("%s: takes all rows, whatever column '%s' says: %s", source, name, shown)


def _refuse_missing(missing: int, total: int, path: str) -> None:
    if missing:
        raise DataError(
            f"{missing} of {total} rows of {path} have no label",
            expected="a label in each row",
            next="remove these rows, or choose another column in dataset.label_column",
        )


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
