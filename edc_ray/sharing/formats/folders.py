"""Condensed images in any layout that `edc-ray import` reads. The files in a folder show its layout.

new000/class000_id000.jpg, 00000/...   EDC, RDED: `official_images`
train/00000/class00000_id00000.png     an image folder with its split
data/train-00000-of-00001.parquet      Hugging Face: image, and label or class_id
data-000000.tar                        WebDataset: `image_tars`
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from threading import Lock

import pyarrow as pa

from edc_ray.artifacts.storage.limits import MAX_CONFIG_BYTES, MAX_TABLE_BYTES
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.artifacts.tables.codec import schema_from_bytes, table_from_bytes
from edc_ray.data.real.parquet import class_names_of, encoded_leaf, holds_images
from edc_ray.errors import DataError
from edc_ray.sharing.formats.official_images import OfficialFolder, numbered_slots, open_official_folder
from edc_ray.sharing.formats.tars import MAX_TAR_BYTES, TarImage, images_of_tar

CLASS_NAMES = "class_names.json"
_SPLIT = "train"
_LABELS = ("class_id", "label")
_PACKED = (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2", ".tar.lz4")
_FILES_KEPT = 2
_FETCH_AGAIN = "fetch or write it again"


@dataclass(frozen=True)
class PackedFolder(OfficialFolder):
    """Images in files that hold many. `files` are the images' names; `places` their file and position in it.

    `unpack` gives the images of a file. It keeps the last files, so images in class order are read once.
    """

    places: tuple[tuple[str, int], ...] = ()
    unpack: Callable[[str], list[bytes]] = field(kw_only=True, compare=False, repr=False)
    _lock: Lock = field(default_factory=Lock, compare=False, repr=False)

    def encoded(self, row: int) -> bytes:
        """The bytes of an image."""
        path, place = self.places[row]
        with self._lock:  # else threads would unpack the same file at once
            return self.unpack(path)[place]


def open_condensed_folder(url: str) -> OfficialFolder:
    """List a folder of condensed images in any known layout and check that it is a whole set.

    Raises:
        DataError, ArtifactError: no known layout, missing classes, or classes of different sizes.
    """
    store = open_store(url, writable=False)
    paths = store.list()
    tables = [path for path in paths if path.endswith(".parquet")]
    tables = [path for path in tables if path.startswith("data/")] or [p for p in tables if "/" not in p]
    if tables:
        return _open_tables(store, tables)
    if tars := [path for path in paths if path.endswith(".tar") and "/" not in path]:
        return _open_tars(store, tars)
    _refuse_packed(store, paths)
    inner = [path for path in paths if path.startswith(f"{_SPLIT}/")]
    folder = open_official_folder(
        open_store(store.join(_SPLIT), store.options, writable=False) if inner else store
    )
    return replace(folder, class_names=_stated_names(store, folder.num_classes))


def _open_tables(store: Store, paths: Sequence[str]) -> OfficialFolder:
    labels, ids, places = list[int](), list[int | None](), list[tuple[str, int]]()
    names: tuple[str, ...] | None = None
    for path in paths:
        data, url = store.read(path, limit=MAX_TABLE_BYTES), store.join(path)
        schema = schema_from_bytes(data, url=url, next=_FETCH_AGAIN)
        column = next((name for name in _LABELS if name in schema.names), None)
        if column is None or "image" not in schema.names:
            raise DataError(
                f"{url} holds no labelled images",
                found=f"columns {', '.join(schema.names)}",
                expected="image, and class_id or label",
            )
        table = table_from_bytes(data, url=url, columns=[column, "ipc_id"], next=_FETCH_AGAIN)
        labels += _whole_numbers(table, column, url)
        there = "ipc_id" in table.column_names
        ids += _whole_numbers(table, "ipc_id", url) if there else [None] * table.num_rows
        places += [(path, row) for row in range(table.num_rows)]
        names = names or class_names_of(schema, "label")
    if not labels:
        raise DataError(f"no images in {store.url}", expected="rows in its Parquet files")
    slots, num_classes = numbered_slots(store, labels, ids)
    rows = tuple(f"{path} row {row}" for path, row in places)
    named = names if names is not None and len(names) == num_classes else None
    unpack = lru_cache(_FILES_KEPT)(partial(_images, store))
    return PackedFolder(
        store, rows, slots, num_classes, len(rows) // num_classes, named, places=tuple(places), unpack=unpack
    )


def _refuse_packed(store: Store, paths: Sequence[str]) -> None:
    """Compressed tar files, where there is nothing else to import."""
    packed = [path for path in paths if "/" not in path and path.lower().endswith(_PACKED)]
    if packed and not any(path.lower().endswith((".png", ".jpg", ".jpeg")) for path in paths):
        raise DataError(
            f"{store.url} holds compressed tar files", found=", ".join(packed[:3]),
            expected="uncompressed tar files: a compressed one may unpack to any size",
            next="decompress them, for example with gunzip",
        )  # fmt: skip


def _open_tars(store: Store, paths: Sequence[str]) -> OfficialFolder:
    labels, ids, files, places = list[int](), list[int | None](), list[str](), list[tuple[str, int]]()
    for path in paths:
        for place, image in enumerate(_tar(store, path)):
            labels.append(image.label)
            ids.append(image.ipc_id)
            files.append(f"{path} {image.name}")
            places.append((path, place))
    if not labels:
        raise DataError(f"no images in {store.url}", expected="KEY.png and KEY.cls in its tar files")
    slots, num_classes = numbered_slots(store, labels, ids)

    @lru_cache(_FILES_KEPT)
    def unpack(path: str) -> list[bytes]:
        return [image.data for image in _tar(store, path)]

    return PackedFolder(
        store, tuple(files), slots, num_classes, len(files) // num_classes, _stated_names(store, num_classes),
        places=tuple(places), unpack=unpack,
    )  # fmt: skip


def _tar(store: Store, path: str) -> list[TarImage]:
    return images_of_tar(store.read(path, limit=MAX_TAR_BYTES), url=store.join(path))


def _images(store: Store, path: str) -> list[bytes]:
    data, url = store.read(path, limit=MAX_TABLE_BYTES), store.join(path)
    schema = schema_from_bytes(data, url=url, next=_FETCH_AGAIN)
    if not holds_images(schema, "image"):
        kind = schema.field("image").type
        raise DataError(f"{url} holds no encoded images", found=str(kind), expected="bytes of each")
    table = table_from_bytes(data, url=url, columns=[encoded_leaf(schema, "image")], next=_FETCH_AGAIN)
    column = table.column("image").combine_chunks()
    if pa.types.is_struct(column.type):
        column = column.field("bytes")
    if column.null_count:
        found = f"{column.null_count} rows without"
        raise DataError(f"{url} holds no encoded images", found=found, expected="bytes of each")
    return column.to_pylist()


def _whole_numbers(table: pa.Table, name: str, url: str) -> list[int]:
    column = table.column(name)
    if not pa.types.is_integer(column.type) or column.null_count:
        raise DataError(f"column '{name}' of {url} holds no numbers", found=str(column.type))
    return column.to_pylist()


def _stated_names(store: Store, num_classes: int) -> tuple[str, ...] | None:
    """The names in class_names.json, if they are there and fit these classes."""
    try:
        names = json.loads(store.read_if_there(CLASS_NAMES, limit=MAX_CONFIG_BYTES) or b"null")
    except (ValueError, RecursionError):
        return None
    fits = isinstance(names, list) and len(names) == num_classes and all(isinstance(n, str) for n in names)
    return tuple(names) if fits else None
