"""Which split a file belongs to, by the names of its folders and its own."""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Sequence
from typing import Literal

from edc_ray.errors import DataError

Role = Literal["train", "val"]

# Word in a name -> the split that it means. The first two are the words of the `datasets` library.
_WORDS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
    "extra": "extra", "unlabeled": "unlabeled", "unlabelled": "unlabeled", "unsupervised": "unlabeled",
}  # fmt: skip
_WANTED: dict[Role, tuple[str, ...]] = {"train": ("train",), "val": ("validation", "test")}
_NO_SPLIT = "no split"

_log = logging.getLogger(__name__)


def split_of(name: str) -> str | None:
    """The split that a file or a folder is named after: train, validation, test, extra or unlabeled.

    A word counts where it stands alone, as in "train-00000-of-00002", "cifar_train" and "train2017", not as
    in "trainset". An extra or unlabelled part of a split is no part of that split.

    Returns:
        None if the name holds no such word, or words of several splits.
    """
    words = re.findall(r"[a-z]+", name.lower())
    found = {_WORDS[word] for word in words if word in _WORDS}
    apart = found & {"extra", "unlabeled"}
    found = apart or found
    return found.pop() if len(found) == 1 else None


def is_split_folder(name: str) -> bool:
    """Whether a folder's whole name is that of a split, so that it is no class."""
    return name.lower() in _WORDS


def choose_split(
    paths: Sequence[str], root: str, role: Role, source: str, *, named: bool = False
) -> list[str]:
    """The files of one role. All of them, if no name says to which split a file belongs.

    A file belongs to the split that its own name says, else to that of the nearest folder below `root`. Files
    of other splits, and files of no split beside those of a split, are left out, and the log says so.

    Args:
        paths: files below the root.
        root: what the user named; its own folders say nothing.
        role: "train" takes the split train; "val" takes validation, else test.
        source: what errors call the root.
        named: the user chose these files by a pattern, so that files of a single split are what was meant.

    Returns:
        The chosen files, sorted. Both roles may get the same files: `open_dataset` refuses that.

    Raises:
        DataError: other splits are there, but not the one wanted.
    """
    splits = _by_split(paths, root)
    if list(splits) == [_NO_SPLIT] or (named and len(splits) == 1):
        return next(iter(splits.values()))
    chosen = next((name for name in _WANTED[role] if name in splits), None)
    if chosen is None:
        raise _no_such_split(splits, role, source)
    others = {name: files for name, files in splits.items() if name != chosen}
    used_elsewhere = {name for names in _WANTED.values() for name in names}
    for name, files in others.items():
        level = logging.INFO if name in used_elsewhere else logging.WARNING
        _log.log(
            level, "%s: dataset.%s takes the split '%s'; left out: %s, such as %s (files: %d)",
            source, role, chosen, name, posixpath.basename(files[0]), len(files),
        )  # fmt: skip
    return splits[chosen]


def has_split(paths: Sequence[str], root: str, role: Role) -> bool:
    """Whether some files are named after a split of the role."""
    return any(name in _WANTED[role] for name in _by_split(paths, root))


def _by_split(paths: Sequence[str], root: str) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for path in sorted(paths):
        parts = path.removeprefix(root).strip("/").split("/")
        named = (split_of(part) for part in reversed(parts))
        splits.setdefault(next((split for split in named if split), _NO_SPLIT), []).append(path)
    return splits


def _no_such_split(splits: dict[str, list[str]], role: Role, source: str) -> DataError:
    shown = [f"{name} ({posixpath.basename(files[0])})" for name, files in splits.items()]
    wanted = "training" if role == "train" else "validation"
    example = "train" if role == "train" else "validation"
    return DataError(
        f"{source} does not say which files hold the {wanted} images",
        found=", ".join(shown),
        expected=f"files or folders named after {' or '.join(_WANTED[role])}",
        next=f"name the files, as in dataset.{role}={source}/{example}*.parquet",
    )
