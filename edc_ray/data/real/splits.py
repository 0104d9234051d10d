"""Which split a file belongs to, by the names of its folders and its own."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from typing import Literal

from edc_ray.errors import DataError

Role = Literal["train", "val"]

# Word in a name -> the split that it means. The first two are the words of the `datasets` library.
_WORDS = {
    "train": "train", "training": "train", "trainval": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
    "holdout": "test", "heldout": "test",
    "extra": "extra", "unlabeled": "unlabeled", "unlabelled": "unlabeled", "unsupervised": "unlabeled",
}  # fmt: skip
_WANTED: dict[Role, tuple[str, ...]] = {"train": ("train",), "val": ("validation", "test")}
_NO_SPLIT = "no split"
_GLUED = re.compile(r"(?<=.)(set|data|images|imgs)$")
"""What people write behind a word without a gap: trainset, testdata."""

_log = logging.getLogger(__name__)


def split_of(name: str) -> str | None:
    """The split that a file or a folder is named after: train, validation, test, extra or unlabeled.

    A word counts where it stands alone, as in "train-00000-of-00002", "cifar_train", "train2017" and
    "trainset", not as in "latest". An extra or unlabelled part of a split is no part of that split.

    Returns:
        None if the name holds no such word, or words of several splits.
    """
    words = [_GLUED.sub("", word) for word in re.findall(r"[a-z]+", name.lower())]
    found = {_WORDS[word] for word in words if word in _WORDS}
    apart = found & {"extra", "unlabeled"}
    found = apart or found
    return found.pop() if len(found) == 1 else None


def is_split_folder(name: str) -> bool:
    """Whether a folder's whole name is that of a split, so that it is no class."""
    return _GLUED.sub("", name.lower()) in _WORDS


def names_below(path: str, root: str) -> list[str]:
    """The folders between a root and a file, and the file."""
    return path.removeprefix(root).strip("/").split("/")


def choose_split(
    paths: Sequence[str],
    root: str,
    role: Role,
    source: str,
    *,
    named: bool = False,
    names: Callable[[str, str], Sequence[str]] = names_below,
) -> list[str]:
    """The files of one role. All of them, if no name says to which split a file belongs.

    A file belongs to the split that the last of its names says. Files of other splits, and files of no split
    beside those of a split, are left out, and the log says so.

    Args:
        paths: files below the root.
        root: what the user named; its own folders say nothing.
        role: "train" takes the split train; "val" takes validation, else test.
        source: what errors call the root.
        named: the user chose these files by a pattern, so that files of a single split are what was meant.
        names: of a file and the root, the names that may say a split: those of its folders and its own.

    Returns:
        The chosen files, sorted. Both roles may get the same files: `open_dataset` refuses that.

    Raises:
        DataError: other splits are there, but not the one wanted.
    """
    splits = _by_split(paths, root, names)
    if list(splits) == [_NO_SPLIT] or (named and len(splits) == 1):
        return next(iter(splits.values()))
    chosen = next((name for name in _WANTED[role] if name in splits), None)
    if chosen is None:
        raise _no_such_split(splits, root, role, source)
    others = {name: files for name, files in splits.items() if name != chosen}
    used_elsewhere = {name for names in _WANTED.values() for name in names}
    for name, files in others.items():
        level = logging.INFO if name in used_elsewhere else logging.WARNING
        _log.log(
            level, "%s: dataset.%s takes the split '%s'; left out: %s, such as %s (files: %d)",
            source, role, chosen, name, "/".join(names_below(files[0], root)), len(files),
        )  # fmt: skip
    return splits[chosen]


def has_both_roles(
    paths: Sequence[str], root: str, names: Callable[[str, str], Sequence[str]] = names_below
) -> bool:
    """Whether some files are named after the training split, and some after a validation or test split."""
    splits = _by_split(paths, root, names)
    return all(any(name in splits for name in wanted) for wanted in _WANTED.values())


def _by_split(
    paths: Sequence[str], root: str, names: Callable[[str, str], Sequence[str]]
) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for path in sorted(paths):
        named = (split_of(name) for name in reversed(names(path, root)))
        splits.setdefault(next((split for split in named if split), _NO_SPLIT), []).append(path)
    return splits


def _no_such_split(splits: dict[str, list[str]], root: str, role: Role, source: str) -> DataError:
    shown = [f"{name} ({'/'.join(names_below(files[0], root))})" for name, files in splits.items()]
    wanted = "training" if role == "train" else "validation"
    example = "train" if role == "train" else "validation"
    tables = all(path.lower().endswith(".parquet") for files in splits.values() for path in files)
    return DataError(
        f"{source} does not say which files hold the {wanted} images",
        found=", ".join(shown),
        expected=f"files or folders named after {' or '.join(_WANTED[role])}",
        next=f"name the files, as in dataset.{role}={source}/{example}*.parquet"
        if tables
        else f"name their folder: dataset.{role}={source}/FOLDER",
    )
