"""Which classes a source has, and which of them are used in which order."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edc_ray.data.real.undecoded import UndecodedImages
from edc_ray.errors import DataError

_log = logging.getLogger(__name__)


def choose_classes(
    images: UndecodedImages,
    given: Sequence[str] | None,
    num_classes: int | None,
    *,
    must_equal: Sequence[str] | None = None,
) -> UndecodedImages:
    """The images of the wanted classes, labelled by position in the wanted order.

    Args:
        images: a source as it is.
        given: wanted names, in label order. A source that names its classes may have more; one that only
            numbers them is given these names.
        num_classes: what the user says; None to take what there is.
        must_equal: names of the training set, when these are validation images.

    Raises:
        DataError: labels are out of range, a wanted class is absent, numbers contradict, there is one class
            only, or the validation set has other classes than the training set.
    """
    if len(images.labels) == 0:
        raise DataError(f"{images.source} is empty", expected="labelled images")
    if given is not None and len(set(given)) < len(given):
        raise DataError("dataset.class_names repeats a name", found=", ".join(given))
    if images.class_names is None:
        count = (
            len(must_equal) if must_equal is not None else (len(given) if given is not None else num_classes)
        )
        names = tuple(given or must_equal or map(str, range(count or max(1, int(images.labels.max()) + 1))))
        images = replace(images, class_names=names)
        _refuse_labels_out_of_range(images, names)
    else:
        _refuse_labels_out_of_range(images, images.class_names)
        if given is not None:
            images = _select(images, tuple(given))
        elif must_equal is not None and tuple(must_equal) != images.class_names:
            raise _classes_differ(images, tuple(must_equal))
    assert images.class_names is not None
    _refuse_counts(images, num_classes)
    return images


def refuse_empty_classes(images: UndecodedImages) -> None:
    """Every class has an image, and there are two classes or more.

    Raises:
        DataError: otherwise; the error names the classes.
    """
    assert images.class_names is not None
    counts = np.bincount(images.labels, minlength=len(images.class_names))
    empty = [name for name, count in zip(images.class_names, counts, strict=True) if count == 0]
    if empty:
        raise DataError(
            f"{images.source}: {len(empty)} of {len(counts)} classes have no image",
            found=f"none of {_some(empty)}",
            expected="at least one image of each class",
            next="add images, or list the classes to use in dataset.class_names",
        )


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
        raise DataError(
            f"{images.source}: dataset.num_classes contradicts the images",
            found=f"{found} classes",
            expected=f"{num_classes} classes",
            next=f"leave dataset.num_classes unset, or set it to {found}",
        )


def _refuse_labels_out_of_range(images: UndecodedImages, names: Sequence[str]) -> None:
    wrong = np.flatnonzero((images.labels < 0) | (images.labels >= len(names)))
    if len(wrong):
        first = int(wrong[0])
        raise DataError(
            f"{images.source}: {len(wrong)} labels are out of range",
            found=f"label {images.labels[first]} of {images.reader.name(int(images.rows[first]))}",
            expected=f"0 to {len(names) - 1}",
            next="a split without labels cannot be used; else correct dataset.num_classes or the labels",
        )


def _select(images: UndecodedImages, given: tuple[str, ...]) -> UndecodedImages:
    assert images.class_names is not None
    if given == images.class_names:
        return images
    missing = [name for name in given if name not in images.class_names]
    if missing:
        raise DataError(
            f"{images.source} lacks classes of dataset.class_names",
            found=_some(images.class_names),
            expected=_some(missing),
        )
    dropped = len(images.class_names) - len(given)
    if dropped:
        _log.info(
            "%s: %d classes that dataset.class_names does not list are left out", images.source, dropped
        )
    new_label = np.full(len(images.class_names), -1, dtype=np.int64)
    new_label[[images.class_names.index(name) for name in given]] = np.arange(len(given))
    labels = new_label[images.labels]
    kept = np.flatnonzero(labels >= 0)
    return replace(images, rows=images.rows[kept], labels=labels[kept], class_names=given)


def _classes_differ(val: UndecodedImages, train_names: tuple[str, ...]) -> DataError:
    assert val.class_names is not None
    lacking = [name for name in train_names if name not in val.class_names]
    further = [name for name in val.class_names if name not in train_names]
    differences = []
    if lacking:
        differences.append(f"without {_some(lacking)}")
    if further:
        differences.append(f"with {_some(further)} besides")
    return DataError(
        f"{val.source}: validation and training images have different classes",
        found=" and ".join(differences) or f"another order: {_some(val.class_names)}",
        expected=f"{len(train_names)} classes: {_some(train_names)}",
    )


def _some(names: Sequence[str], limit: int = 5) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
