"""Image files on any storage that fsspec reaches. The folder of a file is its class."""

from __future__ import annotations

import hashlib
import logging
import posixpath
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from fsspec import AbstractFileSystem

from edc_ray.artifacts.storage.limits import MAX_IMAGE_BYTES
from edc_ray.data.real.splits import Role, choose_split, is_split_folder, split_of
from edc_ray.data.real.undecoded import NUM_THREADS, BadImageError, Item, UndecodedImages
from edc_ray.errors import DataError

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"
)  # fmt: skip
_OTHER_IMAGE_SUFFIXES = (".tif", ".tiff", ".avif", ".heic", ".heif", ".jp2", ".svg", ".psd", ".npy", ".exr")

_log = logging.getLogger(__name__)


class FileReader:
    """One image file per row, read when asked for.

    Args:
        filesystem: where the files are.
        paths: full paths.
        names: paths relative to the dataset. Names and sizes make the content hash.
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
        """See ItemReader. Threads read the files."""
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            return list(pool.map(self._read_one, rows))

    def _read_one(self, row: int) -> Item:
        if self._sizes[row] > MAX_IMAGE_BYTES:
            problem = f"{self._sizes[row]} bytes are more than {MAX_IMAGE_BYTES}"
            return BadImageError(self.name(row), problem, "scale it down")
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
        """See ItemReader. Covers relative names and sizes, because reading all files could take hours."""
        sha = hashlib.sha256()
        for row in rows:
            sha.update(f"{self._names[row]}\0{self._sizes[row]}\0".encode())
        return sha.digest()

    def files(self) -> set[str]:
        """See ItemReader."""
        return {self._filesystem.unstrip_protocol(path) for path in self._paths}


def is_image(path: str) -> bool:
    """Whether a file is read as an image, by its suffix."""
    return path.lower().endswith(IMAGE_SUFFIXES)


def is_hidden(path: str, root: str) -> bool:
    """Whether a file, or a folder between it and the root, is what desktops and editors leave behind."""
    parts = path.removeprefix(root).strip("/").split("/")
    return any(part.startswith((".", "__MACOSX")) for part in parts)


def holds_splits(root: str, files: Mapping[str, Any]) -> bool:
    """Whether the folders of a tree are splits, each with class folders inside.

    All of them have the name of a split, or one is named after "train" and another after a further split.
    """
    folders = {name.split("/")[0] for _, name, _ in _image_files(files, root) if name.count("/") > 1}
    if folders and all(map(is_split_folder, folders)):
        return True
    splits = {split_of(folder) for folder in folders} - {None}
    return "train" in splits and len(splits) > 1


def split_folder(root: str, files: Mapping[str, Any], role: Role, source: str) -> str:
    """Name of the folder with the images of a role, in a tree of splits.

    Raises:
        DataError: there is none, or several.
    """
    chosen = choose_split([path for path, _, _ in _image_files(files, root)], root, role, source)
    names = sorted({path.removeprefix(root).strip("/").split("/")[0] for path in chosen})
    if len(names) > 1:
        raise DataError(
            f"{source} has several folders of one split",
            found=", ".join(names),
            expected="one folder for each split",
            next=f"name one: dataset.{role}={source}/{names[0]}",
        )
    return names[0]


def read_image_folder(
    filesystem: AbstractFileSystem, root: str, files: Mapping[str, dict[str, Any]], source: str
) -> UndecodedImages:
    """Images of a tree whose top folders are the classes, in sorted order.

    Args:
        filesystem: where the tree is.
        root: its path.
        files: every file below the root with its details, without hidden ones.
        source: what errors call the tree.

    Raises:
        DataError: there are no class folders or no images.
    """
    root = root.rstrip("/")
    entries = filesystem.ls(root, detail=True)
    folders = (posixpath.basename(e["name"].rstrip("/")) for e in entries if filesystem.isdir(e["name"]))
    class_names = tuple(sorted(name for name in folders if not is_hidden(name, "")))
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
    _tell_of_others(files, root, source)
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
    """Path, path relative to the root, and bytes of each image."""
    inside = root.rstrip("/") + "/" if root else ""
    return [
        (path, path.removeprefix(inside).lstrip("/"), int(files[path].get("size") or 0))
        for path in sorted(files)
        if is_image(path) and files[path].get("type", "file") != "directory" and path.startswith(inside)
    ]


def _tell_of_others(files: Iterable[str], root: str, source: str) -> None:
    """Say which files look like images that are not read."""
    inside = root.rstrip("/") + "/"
    others = sorted(p for p in files if p.startswith(inside) and p.lower().endswith(_OTHER_IMAGE_SUFFIXES))
    if others:
        suffixes = sorted({posixpath.splitext(path)[1].lower() for path in others})
        _log.warning(
            "%s: left out files that are not read: %s, such as %s (%d); convert them to PNG or JPEG",
            source, ", ".join(suffixes), others[0].removeprefix(inside), len(others),
        )  # fmt: skip


def _refuse_empty(paths: Sequence[str], source: str, files: Mapping[str, Any]) -> None:
    if not paths:
        raise DataError(
            f"no images in {source}",
            found=f"{len(files)} files, none of them an image inside a class folder{_shown_suffixes(files)}",
            expected=f"CLASS/NAME with one of {' '.join(IMAGE_SUFFIXES)}, or Parquet files",
        )


def _shown_suffixes(files: Iterable[str]) -> str:
    counts = Counter(posixpath.splitext(path)[1].lower() for path in files)
    shown = [f"{count} {suffix}" for suffix, count in counts.most_common(4) if suffix]
    return f" ({', '.join(shown)})" if shown else ""
