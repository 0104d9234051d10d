"""Image files on any storage that fsspec reaches; the folder of a file is its class."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from fsspec import AbstractFileSystem

from edc_ray.artifacts.storage.limits import MAX_IMAGE_BYTES
from edc_ray.data.real.undecoded import NUM_THREADS, Item, UndecodedImages
from edc_ray.errors import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "test", "testing"}


class FileReader:
    """One image file per row, read when asked for.

    Args:
        filesystem: where the files are.
        paths: full paths.
        names: paths relative to the dataset; these and the sizes are the content hash.
        sizes: bytes of each file.
    """

    def __init__(
        self, filesystem: AbstractFileSystem, paths: Sequence[str], names: Sequence[str], sizes: Sequence[int]
    ) -> None:
        self._filesystem = filesystem
        self._paths = list(paths)
        self._names = list(names)
        self._sizes = list(sizes)
        self.total_bytes = sum(sizes)

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, rows: Sequence[int] | np.ndarray) -> list[Item]:
        """See ItemReader; files are read side by side."""
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            return list(pool.map(self._read_one, rows))

    def _read_one(self, row: int) -> bytes:
        if self._sizes[row] > MAX_IMAGE_BYTES:
            raise DataError(
                f"image {self.name(row)} is too large",
                found=f"{self._sizes[row]} bytes",
                expected=f"at most {MAX_IMAGE_BYTES}",
            )
        try:
            data = self._filesystem.cat_file(self._paths[row], end=self._sizes[row] or None)
        except OSError as error:
            raise DataError(f"cannot read image {self.name(row)}", found=type(error).__name__) from error
        assert isinstance(data, bytes)
        return data

    def name(self, row: int) -> str:
        """See ItemReader."""
        return self._filesystem.unstrip_protocol(self._paths[row]).removeprefix("file://")

    def digest(self, rows: np.ndarray) -> bytes:
        """See ItemReader; covers relative names and sizes, for reading all files could take hours."""
        sha = hashlib.sha256()
        for row in rows:
            sha.update(f"{self._names[row]}\0{self._sizes[row]}\0".encode())
        return sha.digest()

    def files(self) -> set[str]:
        """See ItemReader."""
        return {self._filesystem.unstrip_protocol(path) for path in self._paths}


def read_image_folder(
    filesystem: AbstractFileSystem, root: str, files: Mapping[str, dict[str, Any]], source: str
) -> UndecodedImages:
    """Images of a tree whose first level of folders are the classes, in sorted order.

    Args:
        filesystem: where the tree is.
        root: its path.
        files: every file below the root with its details.
        source: what errors call the tree.

    Raises:
        DataError: there are no class folders or no images, or the root holds splits instead of classes.
    """
    root = root.rstrip("/")
    entries = filesystem.ls(root, detail=True)
    folders = (posixpath.basename(e["name"].rstrip("/")) for e in entries if filesystem.isdir(e["name"]))
    class_names = tuple(sorted(name for name in folders if not name.startswith((".", "__MACOSX"))))
    if class_names and {name.lower() for name in class_names} <= _SPLIT_NAMES:
        raise DataError(
            f"{source} holds splits, not classes",
            found=f"folders {', '.join(class_names)}",
            expected="one folder for each class",
            next=f"dataset.train={source}/{class_names[0]} and dataset.val likewise",
        )
    labels, paths, names, sizes = [], [], [], []
    index = {name: label for label, name in enumerate(class_names)}
    for path, name, size in _image_files(files, root):
        label = index.get(name.split("/")[0]) if "/" in name else None
        if label is not None:
            labels.append(label)
            paths.append(path)
            names.append(name)
            sizes.append(size)
    _refuse_empty(paths, source, files)
    reader = FileReader(filesystem, paths, names, sizes)
    return UndecodedImages(reader, np.arange(len(paths)), np.asarray(labels, np.int64), class_names, source)


def read_image_glob(
    filesystem: AbstractFileSystem, files: Mapping[str, dict[str, Any]], source: str
) -> UndecodedImages:
    """Images that a pattern matches; the name of the folder a file lies in is its class.

    Raises:
        DataError: no image matches.
    """
    found = list(_image_files(files, ""))
    _refuse_empty([path for path, _, _ in found], source, files)
    parents = [posixpath.basename(posixpath.dirname(path)) for path, _, _ in found]
    class_names = tuple(sorted(set(parents)))
    index = {name: label for label, name in enumerate(class_names)}
    names = [
        f"{parent}/{posixpath.basename(path)}" for parent, (path, _, _) in zip(parents, found, strict=True)
    ]
    reader = FileReader(filesystem, [path for path, _, _ in found], names, [size for _, _, size in found])
    labels = np.asarray([index[parent] for parent in parents], np.int64)
    return UndecodedImages(reader, np.arange(len(found)), labels, class_names, source)


def _image_files(files: Mapping[str, dict[str, Any]], root: str) -> list[tuple[str, str, int]]:
    # Files whose name begins with a dot are what desktops and macOS archives leave beside the images.
    chosen = []
    for path in sorted(files):
        is_image = path.lower().endswith(IMAGE_SUFFIXES) and not posixpath.basename(path).startswith(".")
        if is_image and files[path].get("type", "file") != "directory":
            chosen.append((path, path.removeprefix(root).lstrip("/"), int(files[path].get("size") or 0)))
    return chosen


def _refuse_empty(paths: Sequence[str], source: str, files: Mapping[str, Any]) -> None:
    if not paths:
        raise DataError(
            f"no images in {source}",
            found=f"{len(files)} files, none of them an image inside a class folder",
            expected=f"CLASS/NAME with one of {' '.join(IMAGE_SUFFIXES)}, or Parquet files",
        )
