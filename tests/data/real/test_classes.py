from dataclasses import replace

import numpy as np
import pytest

from edc_ray.data.real.classes import choose_classes, refuse_empty_classes
from edc_ray.data.real.undecoded import MemoryReader, UndecodedImages
from edc_ray.errors import DataError

READER = MemoryReader([b"0", b"1", b"2", b"3"], "made")


def _images(labels: list[int], names: tuple[str, ...] | None) -> UndecodedImages:
    rows = np.arange(len(labels))
    return UndecodedImages(READER, rows, np.asarray(labels, np.int64), names, "made")


def test_given_names_select_classes_in_their_order() -> None:
    chosen = choose_classes(_images([0, 1, 2, 1], ("a", "b", "c")), ("c", "b"), None)
    assert chosen.labels.tolist() == [1, 0, 1]
    assert chosen.rows.tolist() == [1, 2, 3]
    assert chosen.class_names == ("c", "b")


@pytest.mark.parametrize(
    ("given", "num_classes", "expected"),
    [(None, None, ("0", "1", "2")), (None, 3, ("0", "1", "2")), (("x", "y", "z"), None, ("x", "y", "z"))],
)
def test_numbered_classes_get_names(given, num_classes, expected) -> None:
    assert choose_classes(_images([0, 2, 1, 1], None), given, num_classes).class_names == expected


def test_numbered_validation_images_take_the_names_of_training() -> None:
    val = choose_classes(_images([0, 1], None), None, None, must_equal=("a", "b", "c"))
    assert val.class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("images", "given", "num_classes", "message"),
    [
        (_images([], None), None, None, "is empty"),
        (_images([0, -1], None), None, None, r"1 labels are out of range(.|\n)*label -1 of made row 1"),
        (_images([0, 5], ("a", "b")), None, None, r"label 5 of made row 1(.|\n)*0 to 1"),
        (_images([0, 2], None), None, 2, "label 2"),
        (_images([0, 1], ("a", "b")), ("a", "c"), None, r"lacks classes(.|\n)*'c'"),
        (_images([0, 1], ("a", "b")), ("a", "a"), None, "repeats a name"),
        (_images([0, 1], ("a", "b")), None, 3, r"num_classes contradicts(.|\n)*2 classes"),
        (_images([0, 0], ("a",)), None, None, "single class"),
        (_images([0, 0], None), None, None, "single class"),
    ],
)
def test_labels_and_names_that_contradict_are_refused(images, given, num_classes, message) -> None:
    with pytest.raises(DataError, match=message):
        choose_classes(images, given, num_classes)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "b"), "without 'c'"),
        (("a", "b", "c", "d"), "with 'd' besides"),
        (("a", "c", "b"), "another order: 'a', 'c', 'b'"),
    ],
)
def test_validation_images_of_other_classes_are_refused(names, message) -> None:
    with pytest.raises(DataError, match=message):
        choose_classes(_images([0, 1], names), None, None, must_equal=("a", "b", "c"))


def test_classes_without_images_are_named() -> None:
    images = _images([0, 2], ("a", "b", "c"))
    with pytest.raises(DataError, match=r"1 of 3 classes have no image(.|\n)*'b'"):
        refuse_empty_classes(images)
    refuse_empty_classes(replace(images, labels=np.asarray([0, 1]), class_names=("a", "b")))
