"""Images by URL: a folder of classes, Parquet files, or a pattern, on any storage that fsspec reaches."""

from __future__ import annotations

import logging
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import fsspec.core
from fsspec import AbstractFileSystem

from edc_ray.artifacts.storage.redaction import shown_url
from edc_ray.artifacts.storage.store import PLACES, how_to_open
from edc_ray.data.real.folders import (
    doubt_classes,
    folders_above_class,
    holds_inner_splits,
    holds_splits,
    images_in_splits,
    inner_folders,
    is_hidden,
    is_image,
    outer_folder,
    read_image_folder,
    read_image_glob,
    split_folder,
)
from edc_ray.data.real.other_kinds import refuse_other_folders
from edc_ray.data.real.parquet import read_parquet
from edc_ray.data.real.splits import Role, choose_split, has_both_roles, names_below
from edc_ray.data.real.undecoded import UndecodedImages
from edc_ray.errors import DataError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImagesAtUrl:
    """What lies at a URL. `find_images` makes it.

    Attributes:
        form: how it is read.
        root: the folder that was named; of a pattern, the part before the first mark.
        files: path -> details, without hidden files.
        shown: the URL without secrets.
    """

    filesystem: AbstractFileSystem
    form: Literal["file", "tables", "classes", "splits", "inner_splits", "pattern"]
    root: str
    files: dict[str, dict[str, Any]]
    shown: str

    @property
    def has_validation(self) -> bool:
        """Whether it holds a training split and beside it a validation or test split."""
        if self._tables:
            return has_both_roles(self._tables, self.root)
        if self.form == "splits":
            return has_both_roles(images_in_splits(self.root, self.files), self.root, outer_folder)
        if self.form == "inner_splits":
            return has_both_roles(list(self.files), self.root, inner_folders)
        return self.form == "pattern" and has_both_roles(list(self.files), self.root, folders_above_class)

    @property
    def _tables(self) -> list[str]:
        return _tables(self.files)

    def read(self, role: Role, *, image_column: str | None, label_column: str | None) -> UndecodedImages:
        """The images of one role. They stay encoded.

        Args:
            role: which split, where there are several.
            image_column, label_column: of Parquet files, see `read_parquet`.

        Raises:
            DataError: the files hold something else, or cannot be read.
        """
        with _storage_errors(self.shown):
            if self.form == "file" or self._tables:
                paths = list(self.files)
                if self.form != "file":
                    named = self.form == "pattern"
                    paths = choose_split(self._tables, self.root, role, self.shown, named=named)
                self._tell_of_folders(paths)
                columns = {"image_column": image_column, "label_column": label_column}
                return read_parquet(self.filesystem, paths, self.shown, **columns)
            if self.form == "pattern":
                return read_image_glob(self.filesystem, self._chosen(role, folders_above_class), self.shown)
            if self.form == "inner_splits":
                chosen = self._chosen(role, inner_folders)
                return read_image_folder(self.filesystem, self.root, chosen, self.shown)
            root, shown = self.root, self.shown
            if self.form == "splits":
                name = split_folder(root, self.files, role, shown)
                root, shown = posixpath.join(root, name), posixpath.join(shown, name)
            return read_image_folder(self.filesystem, root, self.files, shown)

    def _tell_of_folders(self, tables: Sequence[str]) -> None:
        folders = sorted({"/".join(names_below(path, self.root)[:-1]) for path in tables})
        if len(folders) > 1:
            _log.warning(
                "%s: reads the files of several folders as one set: %s (%d)",
                self.shown, ", ".join(folder or "." for folder in folders[:4]), len(folders),
            )  # fmt: skip

    def _chosen(self, role: Role, names: Callable[[str, str], list[str]]) -> dict[str, dict[str, Any]]:
        """All files but the images of another role."""
        images = [path for path in self.files if is_image(path)]
        if not images:
            return self.files
        named = self.form == "pattern"
        chosen = choose_split(images, self.root, role, self.shown, named=named, names=names)
        left_out = set(images).difference(chosen)
        return {path: info for path, info in self.files.items() if path not in left_out}


def find_images(source: str) -> ImagesAtUrl:
    """Look at what lies at a URL.

    Args:
        source: a folder with one folder of images for each class, such a folder for each split, Parquet
            files, or a pattern of either.

    Raises:
        DataError: nothing is there, it cannot be reached, or it holds something else.
    """
    shown = shown_url(source)
    with _storage_errors(shown):
        filesystem, path = _filesystem_of(source)
        if filesystem.isfile(path):
            return ImagesAtUrl(filesystem, "file", posixpath.dirname(path), {path: {}}, shown)
        if filesystem.isdir(path):
            files = _below(filesystem, path)
            return ImagesAtUrl(filesystem, _form(files, path, shown), path, files, shown)
        if any(mark in path for mark in "*?["):
            matches = filesystem.glob(path, detail=True)
            assert isinstance(matches, dict)
            root = path[: min(path.index(mark) for mark in "*?[" if mark in path)].rpartition("/")[0]
            files = {str(name): info for name, info in matches.items() if not is_hidden(str(name), root)}
            return ImagesAtUrl(filesystem, "pattern", root, files, shown)
    raise DataError(
        f"nothing at {shown}",
        expected="a folder with one folder of images for each class, Parquet files, or a pattern",
        next="check dataset.train and dataset.val",
    )


def _filesystem_of(source: str) -> tuple[AbstractFileSystem, str]:
    if "://" not in source and os.path.lexists(source):
        # A local name may hold "::", which fsspec takes for a chain of storages.
        return fsspec.filesystem("file"), os.path.abspath(source)
    filesystem, path = fsspec.core.url_to_fs(source)
    return filesystem, str(path)


def _tables(files: Iterable[str]) -> list[str]:
    return [path for path in files if path.lower().endswith(".parquet")]


def _form(
    files: dict[str, dict[str, Any]], root: str, shown: str
) -> Literal["tables", "classes", "splits", "inner_splits"]:
    images = [path for path in files if is_image(path)]
    if tables := _tables(files):
        if images:
            _log.warning(
                "%s: reads the Parquet files (%d), not the image files beside them (%d)",
                shown, len(tables), len(images),
            )  # fmt: skip
        return "tables"
    if not images:
        refuse_other_folders(list(files), shown)
    if holds_splits(root, files):
        return "splits"
    if holds_inner_splits(root, files):
        return "inner_splits"
    doubt_classes(root, files, shown)
    return "classes"


def _below(filesystem: AbstractFileSystem, folder: str) -> dict[str, dict[str, Any]]:
    files = filesystem.find(folder, detail=True)
    assert isinstance(files, dict)
    # fsspec lists a link to a folder as a file, and subsets often consist of links to class folders.
    for name in [name for name, info in files.items() if info["type"] not in ("file", "directory")]:
        if filesystem.isdir(name):
            del files[name]
            files |= filesystem.find(name, detail=True)
    return {name: info for name, info in files.items() if not is_hidden(name, folder)}


@contextmanager
def _storage_errors(shown: str) -> Iterator[None]:
    # Storage libraries raise their own types, which cannot be named here without an import. Their messages
    # may carry signed URLs or credentials, so only the type is shown.
    try:
        yield
    except DataError:
        raise
    except ImportError as error:
        raise DataError(
            f"cannot open {shown}",
            found=str(error),
            next=how_to_open(shown),
        ) from error
    except Exception as error:
        raise DataError(
            f"cannot open {shown}",
            found=type(error).__name__,
            expected=PLACES if isinstance(error, ValueError) else None,
            next="check the address and the credentials of this environment",
        ) from error
