"""Choosing the classes of a source, and their order."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from edc_ray.data.real.undecoded import UndecodedImages
from edc_ray.errors import DataError, OtherImagesError

UNLABELLED = -1
"""What test splits of the `datasets` library hold instead of labels."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Classes:
    """The classes of a training set.

    Attributes:
        names: in label order.
        numbers: what the source calls each class if it only numbers them, else None.
    """

    names: tuple[str, ...]
    numbers: tuple[int, ...] | None = None


def choose_classes(
    images: UndecodedImages,
    given: Sequence[str] | None,
    num_classes: int | None,
    *,
    repeated_names: Literal["error", "number"] = "error",
) -> tuple[UndecodedImages, Classes]:
    """The training images of the wanted classes, labelled by position in the wanted order.

    A source that only numbers its classes may use any integers. They become classes in ascending order.

    Args:
        images: a whole source.
        given: wanted names, in label order. A source that names its classes may have more. A source that only
            numbers them gets these names.
        num_classes: the number that the user expects; None for any.
        repeated_names: "number" appends its label to each name that stands for several classes.

    Raises:
        DataError: the labels contradict the names, a wanted class is missing, two classes have one name, the
            numbers of classes differ, or there is only one class.
    """
    _refuse_empty(images)
    if given is not None and len(set(given)) < len(given):
        raise DataError("dataset.class_names repeats a name", found=", ".join(given))
    if images.class_names is None:
        classes = _numbered_classes(images, given, num_classes)
        labelled = _with_numbers(images, classes)
    else:
        names = _distinct(images.class_names, images.source, repeated_names)
        _refuse_labels_out_of_range(images, names)
        classes = Classes(tuple(given) if given is not None else names)
        labelled = _select(replace(images, class_names=names), classes.names)
    _refuse_counts(labelled, num_classes)
    return labelled, classes


def choose_validation(
    images: UndecodedImages,
    classes: Classes,
    *,
    selected: bool,
    repeated_names: Literal["error", "number"] = "error",
) -> UndecodedImages:
    """The validation images, with the labels that the training images have. A class may have none.

    Args:
        images: a whole source.
        classes: of the training images.
        selected: whether the user chose some classes by name, so that images of others are left out.
        repeated_names: as in training.

    Raises:
        DataError: there are images of other classes, or none at all.
    """
    _refuse_empty(images)
    if images.class_names is None:
        if classes.numbers is None:
            pairs = [f"{number} is '{name}'" for number, name in enumerate(classes.names[:4])]
            _log.warning(
                "%s: its labels are numbers, and the training classes are names. Takes the numbers for "
                "places in the order of the names: %s", images.source, ", ".join(pairs),
            )  # fmt: skip
        return _with_numbers(images, classes)
    names = _distinct(images.class_names, images.source, repeated_names)
    images = replace(images, class_names=names)
    _refuse_labels_out_of_range(images, names)
    further = [name for name in names if name not in classes.names]
    if len(further) == len(names) or (further and not selected):
        lacking = [name for name in classes.names if name not in names]
        found = f"without {_some(lacking)} and " if lacking else ""
        raise DataError(
            f"{images.source}: validation and training images have different classes",
            found=f"{found}with {_some(further)} in addition",
            expected=f"{len(classes.names)} classes: {_some(classes.names)}",
            next="name the classes to use in dataset.class_names, or correct dataset.val",
        )
    return _select(images, classes.names, complete=False)


def refuse_empty_classes(images: UndecodedImages) -> None:
    """Refuse a set in which a class has no image.

    Raises:
        DataError: names the classes.
    """
    empty = _without_images(images)
    if empty:
        assert images.class_names is not None
        raise DataError(
            f"{images.source}: {len(empty)} of {len(images.class_names)} classes have no image",
            found=f"none of {_some(empty)}",
            expected="at least one image of each class",
            next="add images, or list the classes to use in dataset.class_names",
        )


def warn_of_empty_classes(val: UndecodedImages) -> None:
    """Say which classes have no validation image."""
    empty = _without_images(val)
    if empty:
        _log.warning(
            "%s: no validation image of %d of %d classes: %s",
            val.source,
            len(empty),
            len(val.class_names or ()),
            _some(empty),
        )


def _without_images(images: UndecodedImages) -> list[str]:
    assert images.class_names is not None
    counts = np.bincount(images.labels, minlength=len(images.class_names))
    return [name for name, count in zip(images.class_names, counts, strict=True) if count == 0]


def _refuse_empty(images: UndecodedImages) -> None:
    if len(images.labels) == 0:
        raise DataError(f"{images.source} is empty", expected="labelled images")


def _numbered_classes(
    images: UndecodedImages, given: Sequence[str] | None, num_classes: int | None
) -> Classes:
    numbers = np.unique(images.labels)
    _refuse_unlabelled(images, numbers)
    expected = len(given) if given is not None else num_classes
    if expected is not None and numbers[0] >= 0 and numbers[-1] < expected:
        # The numbers are positions: a class that has no image keeps its place.
        numbers = np.arange(expected)
    if given is not None and len(given) != len(numbers):
        raise OtherImagesError(
            f"{images.source}: dataset.class_names contradicts the labels",
            found=f"{len(given)} names, and {len(numbers)} different labels: {_some_numbers(numbers)}",
            expected="a name for each label, in ascending order of the labels",
        )
    return Classes(tuple(given or map(str, numbers.tolist())), tuple(numbers.tolist()))


def _refuse_unlabelled(images: UndecodedImages, numbers: np.ndarray) -> None:
    # Elsewhere -1 is a class like any other: some sets have the labels -1 and 1.
    others = numbers[numbers != UNLABELLED]
    if len(others) < len(numbers) and np.array_equal(others, np.arange(len(others))):
        first = int(np.flatnonzero(images.labels == UNLABELLED)[0])
        raise DataError(
            f"{images.source}: images without a label ({int((images.labels == UNLABELLED).sum())})",
            found=f"label -1 of {images.reader.name(int(images.rows[first]))}",
            expected=f"labels {_some_numbers(others)}" if len(others) else "labelled images",
            next="use a split with labels, or remove these images",
        )


def _with_numbers(images: UndecodedImages, classes: Classes) -> UndecodedImages:
    """Images of numbered classes, labelled by the position of each number among those of training."""
    numbers = np.asarray(classes.numbers if classes.numbers is not None else range(len(classes.names)))
    positions = np.searchsorted(numbers, images.labels).clip(max=len(numbers) - 1)
    wrong = np.flatnonzero(numbers[positions] != images.labels)
    if len(wrong):
        raise _out_of_range(images, wrong, _some_numbers(numbers))
    return replace(images, labels=positions.astype(np.int64), class_names=classes.names)


def _distinct(
    names: tuple[str, ...], source: str, repeated_names: Literal["error", "number"]
) -> tuple[str, ...]:
    repeated = {name for name, count in Counter(names).items() if count > 1}
    if not repeated:
        return names
    if repeated_names == "error":
        labels = [label for label, name in enumerate(names) if name in repeated]
        shown = [f"{label}: '{names[label]}'" for label in labels[:6]]
        raise DataError(
            f"{source}: several classes have the same name",
            found=", ".join(shown) + (" and more" if len(labels) > len(shown) else ""),
            expected="a name of its own for each class",
            next="dataset.repeated_names=number appends the label to such names (crane_134, crane_517)",
        )
    numbered = tuple(f"{name}_{label}" if name in repeated else name for label, name in enumerate(names))
    return _distinct(numbered, source, "error")


def _refuse_counts(images: UndecodedImages, num_classes: int | None) -> None:
    assert images.class_names is not None
    found = len(images.class_names)
    if found < 2:
        raise DataError(
            f"{images.source} has a single class",
            found=f"'{images.class_names[0]}'" if found else "no class",
            expected="two classes or more",
        )
    if num_classes is not None and num_classes != found:
        raise OtherImagesError(
            f"{images.source}: dataset.num_classes contradicts the images",
            found=f"{found} classes",
            expected=f"{num_classes} classes",
            next=f"leave dataset.num_classes unset, or set it to {found}",
        )


def _refuse_labels_out_of_range(images: UndecodedImages, names: Sequence[str]) -> None:
    wrong = np.flatnonzero((images.labels < 0) | (images.labels >= len(names)))
    if len(wrong):
        raise _out_of_range(images, wrong, f"0 to {len(names) - 1}, because it names {len(names)} classes")


def _out_of_range(images: UndecodedImages, wrong: np.ndarray, expected: str) -> DataError:
    first = int(wrong[0])
    return DataError(
        f"{images.source}: labels out of range ({len(wrong)})",
        found=f"label {images.labels[first]} of {images.reader.name(int(images.rows[first]))}",
        expected=f"labels {expected}",
        next="use a split with labels, or correct the labels or the names of the classes",
    )


def _select(images: UndecodedImages, wanted: tuple[str, ...], *, complete: bool = True) -> UndecodedImages:
    assert images.class_names is not None
    if wanted == images.class_names:
        return images
    missing = [name for name in wanted if name not in images.class_names]
    if missing and complete:
        raise OtherImagesError(
            f"{images.source} lacks classes of dataset.class_names",
            found=_some(images.class_names),
            expected=_some(missing),
        )
    position = {name: label for label, name in enumerate(wanted)}
    new_label = np.asarray([position.get(name, -1) for name in images.class_names], dtype=np.int64)
    dropped = int((new_label < 0).sum())
    if dropped:
        _log.info("%s: left out classes that dataset.class_names does not list (%d)", images.source, dropped)
    labels = new_label[images.labels]
    kept = np.flatnonzero(labels >= 0)
    return replace(images, rows=images.rows[kept], labels=labels[kept], class_names=wanted)


def _some(names: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def _some_numbers(numbers: Sequence[int] | np.ndarray, limit: int = 6) -> str:
    ordered = list(map(int, numbers))
    if ordered == list(range(ordered[0], ordered[0] + len(ordered))) and len(ordered) > 2:
        return f"{ordered[0]} to {ordered[-1]}"
    shown = ", ".join(map(str, ordered[:limit]))
    return shown if len(ordered) <= limit else f"{shown} and {len(ordered) - limit} more"
