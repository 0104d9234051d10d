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
from edc_ray.data.real.other_kinds import CLASS_FOLDERS
from edc_ray.data.real.splits import Role, choose_split, is_split_folder, names_below, split_of
from edc_ray.data.real.undecoded import IMAGE_SUFFIXES, NUM_THREADS, BadImageError, Item, UndecodedImages
from edc_ray.errors import DataError

_NOTES = (".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".py", ".pdf", ".html", ".log")
_OF_DESKTOPS = ("thumbs.db", "desktop.ini")

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
        except (FileNotFoundError, PermissionError) as error:
            problem = (
                "a link to nothing" if isinstance(error, FileNotFoundError) else "no permission to read it"
            )
            return BadImageError(self.name(row), problem)
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
    parts = names_below(path, root)
    return any(part.startswith((".", "__MACOSX")) or part.lower() in _OF_DESKTOPS for part in parts)


def holds_splits(root: str, files: Mapping[str, Any]) -> bool:
    """Whether the folders of a tree are splits, each with class folders inside.

    All of them have the name of a split, or one is named after "train" and another after a further split.
    """
    outer = {names_below(path, root)[0] for path in images_in_splits(root, files)}
    if outer and all(map(is_split_folder, outer)):
        return True
    splits = {split_of(folder) for folder in outer} - {None}
    return "train" in splits and len(splits) > 1


def doubt_classes(root: str, files: Mapping[str, Any], source: str) -> None:
    """Say that the folders of a tree may be no classes, because folders inside have the same names.

    Raises:
        DataError: one of them has the name of a split.
    """
    inside = {tuple(names_below(path, root)[:2]) for path in images_in_splits(root, files)}
    outer = sorted({folder for folder, _ in inside})
    same = sorted(name for name, count in Counter(name for _, name in inside).items() if count > 1)
    if len(same) < 2:  # one may be a habit, such as CLASS/images
        return
    shown, split = ", ".join(outer[:4]), next(filter(is_split_folder, outer), None)
    if split is not None:
        raise DataError(
            f"the folders of {source} may be splits or classes",
            found=f"{shown}, with folders of the same names inside: {', '.join(same[:4])}",
            expected="one folder for each class, or folders train and test with the classes inside",
            next="name the folder of the training images: dataset.train=FOLDER, and that of the others: "
            "dataset.val=FOLDER",
        )
    _log.warning(
        "%s: takes the folders %s for the classes, although folders inside have the same names: %s. If these "
        "are the classes, name one folder, as in dataset.train=%s",
        source, shown, ", ".join(same[:4]), posixpath.join(source, outer[0]),
    )  # fmt: skip


def split_folder(root: str, files: Mapping[str, Any], role: Role, source: str) -> str:
    """Name of the folder with the images of a role, in a tree of splits.

    Raises:
        DataError: there is none, or several.
    """
    labelled = images_in_splits(root, files)
    chosen = choose_split(labelled, root, role, source, names=outer_folder)
    names = sorted({names_below(path, root)[0] for path in chosen})
    if len(names) > 1:
        raise DataError(
            f"{source} has several folders of one split",
            found=", ".join(names),
            expected="one folder for each split",
            next=f"name one, dataset.{role}={source}/{names[0]}, or all by a pattern, as in FOLDERS*/*/*",
        )
    loose = [path for path, _, _ in _image_files(files, root) if path not in set(labelled)]
    if loose:
        _log.warning(
            "%s: left out images that are in no class folder, such as %s (%d)",
            source, "/".join(names_below(loose[0], root)), len(loose),
        )  # fmt: skip
    return names[0]


def images_in_splits(root: str, files: Mapping[str, Any]) -> list[str]:
    """The images SPLIT/CLASS/... of a tree of splits."""
    return [path for path, name, _ in _image_files(files, root) if name.count("/") > 1]


def outer_folder(path: str, root: str) -> list[str]:
    return names_below(path, root)[:1]


def inner_folders(path: str, root: str) -> list[str]:
    """The folders between a class and an image, of which some may be splits: CLASS/train/1.png."""
    return [name for name in names_below(path, root)[1:-1] if is_split_folder(name)]


def folders_above_class(path: str, root: str) -> list[str]:
    """The folders between the root and the folder that an image lies in."""
    return names_below(path, root)[:-2]


def holds_inner_splits(root: str, files: Mapping[str, Any]) -> bool:
    """Whether several class folders have one of the same split, as in cat/train/1.png dog/train/2.png."""
    found = {(names_below(path, root)[0], split) for path in files for split in inner_folders(path, root)}
    return any(count > 1 for count in Counter(split for _, split in found).values())


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
    _refuse_empty(paths, source, {path: files[path] for path in files if path.startswith(root + "/")})
    _refuse_other_trees(class_names, names, source)
    _tell_of_others(files, root, paths, source)
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
    _tell_of_others(files, "", [path for path, _, _ in found], source)
    parents = [posixpath.basename(posixpath.dirname(path)) for path, _, _ in found]
    class_names = tuple(sorted(set(parents)))
    _refuse_splits(class_names, source)
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


def _refuse_other_trees(class_names: Sequence[str], names: Sequence[str], source: str) -> None:
    if len(class_names) == 1 and all(name.count("/") > 1 for name in names):
        raise DataError(
            f"{source} has a single folder, with folders inside",
            found=f"'{class_names[0]}', such as {names[0]}",
            expected="one folder of images for each class",
            next=f"name the folder whose folders are the classes, such as {source}/{class_names[0]}",
        )
    _refuse_splits(class_names, source)


def _refuse_splits(class_names: Sequence[str], source: str) -> None:
    splits = [name for name in class_names if is_split_folder(name)]
    if len(splits) > 1 and len(splits) == len(class_names):
        raise DataError(
            f"the images of {source} lie in folders of splits, not of classes",
            found=", ".join(splits),
            expected="SPLIT/CLASS/NAME",
            next="put the images of each split into one folder for each class; if they lie so in "
            "CLASS/SPLIT/NAME, give the folder that holds the classes",
        )
    if splits:
        _log.warning("%s: takes the folder '%s' for a class, not for a split", source, "', '".join(splits))


def _tell_of_others(files: Mapping[str, dict[str, Any]], root: str, read: Sequence[str], source: str) -> None:
    """Say which files that may be data are not read. Notes and tables beside the classes hold no images."""
    known = set(read)
    inside = root.rstrip("/") + "/" if root else ""
    others = [
        path
        for path in sorted(files)
        if path.startswith(inside) and path not in known and files[path].get("type", "file") != "directory"
    ]
    others = [path for path in others if "/" in path.removeprefix(inside) or not _is_note(path)]
    loose = [path for path in others if is_image(path)]
    unread = [path for path in others if not is_image(path)]
    for kind, paths in (("images that are in no class folder", loose), ("files that are not read", unread)):
        if paths:
            advice = "" if paths is loose else "; convert images to PNG or JPEG"
            suffixes = sorted({posixpath.splitext(path)[1].lower() or "no suffix" for path in paths})
            _log.warning(
                "%s: left out %s: %s, such as %s (%d)%s",
                source, kind, ", ".join(suffixes[:8]), paths[0].removeprefix(inside), len(paths), advice,
            )  # fmt: skip


def _is_note(path: str) -> bool:
    name = posixpath.basename(path).lower()
    # `datasets` takes labels from a file of this name. Here the folders are the classes.
    return not name.startswith("metadata.") and ("." not in name or name.endswith(_NOTES))


def _refuse_empty(paths: Sequence[str], source: str, files: Mapping[str, Any]) -> None:
    if not paths:
        raise DataError(
            f"no images in {source}",
            found=f"{len(files)} files, none of them an image inside a class folder{_shown_suffixes(files)}",
            expected=f"CLASS/NAME with one of {' '.join(IMAGE_SUFFIXES)}, or Parquet files",
            next=CLASS_FOLDERS,
        )


def _shown_suffixes(files: Iterable[str]) -> str:
    counts = Counter(posixpath.splitext(path)[1].lower() for path in files)
    shown = [f"{count} {suffix}" for suffix, count in counts.most_common(4) if suffix]
    return f" ({', '.join(shown)})" if shown else ""
