from dataclasses import replace

import numpy as np
import pytest

from edc_ray.data.real.classes import (
    Classes,
    choose_classes,
    choose_validation,
    refuse_empty_classes,
    warn_of_empty_classes,
)
from edc_ray.data.real.undecoded import MemoryReader, UndecodedImages
from edc_ray.errors import DataError

READER = MemoryReader([b"0", b"1", b"2", b"3"], "made")


def _images(labels: list[int], names: tuple[str, ...] | None) -> UndecodedImages:
    rows = np.arange(len(labels))
    return UndecodedImages(READER, rows, np.asarray(labels, np.int64), names, "made")


def _chosen(images: UndecodedImages, given=None, num_classes=None) -> UndecodedImages:
    return choose_classes(images, given, num_classes)[0]


def test_numbers_beside_names_are_told(caplog: pytest.LogCaptureFixture) -> None:
    _, classes = choose_classes(_images([0, 1], ("ant", "zebra")), None, None)
    assert choose_validation(_images([1, 0], None), classes, selected=False).labels.tolist() == [1, 0]
    assert "in the order of the names: 0 is 'ant', 1 is 'zebra'" in caplog.text


def test_given_names_select_classes_in_their_order() -> None:
    chosen = _chosen(_images([0, 1, 2, 1], ("a", "b", "c")), ("c", "b"))
    assert chosen.labels.tolist() == [1, 0, 1]
    assert chosen.rows.tolist() == [1, 2, 3]
    assert chosen.class_names == ("c", "b")


@pytest.mark.parametrize(
    ("given", "num_classes", "expected"),
    [(None, None, ("0", "1", "2")), (None, 3, ("0", "1", "2")), (("x", "y", "z"), None, ("x", "y", "z"))],
)
def test_numbered_classes_get_names(given, num_classes, expected) -> None:
    assert _chosen(_images([0, 2, 1, 1], None), given, num_classes).class_names == expected


@pytest.mark.parametrize(
    ("labels", "given", "names"),
    [
        ([3, 1, 2, 1], None, ("1", "2", "3")),
        ([9, 0, 5, 1], None, ("0", "1", "5", "9")),
        ([10**12 + 1, 10**12, -7], None, ("-7", str(10**12), str(10**12 + 1))),
        ([-1, 1, 1], None, ("-1", "1")),
        ([3, 1, 2, 1], ("x", "y", "z"), ("x", "y", "z")),
        ([2, 0], ("x", "y"), ("x", "y")),
    ],
)
def test_any_integers_are_classes_in_ascending_order(labels, given, names) -> None:
    images, classes = choose_classes(_images(labels, None), given, None)
    order = sorted(set(labels))
    assert images.class_names == classes.names == names
    assert images.labels.tolist() == [order.index(label) for label in labels]
    again, _ = choose_classes(_images(labels, None), classes.names, len(names))
    assert again.labels.tolist() == images.labels.tolist()
    assert again.class_names == names


def test_a_position_without_an_image_keeps_its_place() -> None:
    assert _chosen(_images([0, 2], None), ("a", "b", "c")).labels.tolist() == [0, 2]
    assert _chosen(_images([0, 2], None), None, 3).class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("numbers", "labels", "expected"), [(None, [0, 1], [0, 1]), ((5, 7, 9), [9, 5], [2, 0])]
)
def test_numbered_validation_images_take_the_labels_of_training(numbers, labels, expected) -> None:
    classes = Classes(("a", "b", "c"), numbers)
    val = choose_validation(_images(labels, None), classes, selected=False)
    assert val.class_names == ("a", "b", "c")
    assert val.labels.tolist() == expected


def test_validation_images_are_matched_by_name_and_may_lack_a_class(caplog) -> None:
    classes = Classes(("a", "b", "c"))
    val = choose_validation(_images([0, 1, 1], ("c", "a")), classes, selected=False)
    assert val.labels.tolist() == [2, 0, 0]
    warn_of_empty_classes(val)
    assert "no validation image of 1 of 3 classes: 'b'" in caplog.text


def test_validation_images_of_unselected_classes_are_left_out() -> None:
    classes = Classes(("a", "b"))
    val = choose_validation(_images([0, 1, 2], ("a", "x", "b")), classes, selected=True)
    assert (val.rows.tolist(), val.labels.tolist()) == ([0, 2], [0, 1])


@pytest.mark.parametrize(
    ("images", "given", "num_classes", "message"),
    [
        (_images([], None), None, None, "is empty"),
        (_images([0, 1, -1], None), None, None, r"images without a label \(1\)(.|\n)*label -1 of made row 2"),
        (_images([-1, -1], None), None, None, r"images without a label \(2\)"),
        (_images([0, 5], ("a", "b")), None, None, r"label 5 of made row 1(.|\n)*0 to 1"),
        (_images([0, 2, 3], None), None, 2, r"3 classes(.|\n)*2 classes"),
        (_images([0, 2, 3], None), ("a", "b"), None, r"2 names, and 3 different labels: 0, 2, 3"),
        (_images([0, 1], ("a", "b")), ("a", "c"), None, r"lacks classes(.|\n)*'c'"),
        (_images([0, 1], ("a", "b")), ("a", "a"), None, "repeats a name"),
        (_images([0, 1], ("a", "b")), None, 3, r"num_classes contradicts(.|\n)*2 classes"),
        (_images([0, 0], ("a",)), None, None, "single class"),
        (_images([0, 0], None), None, None, "single class"),
        (_images([0, 2], ("a", "b", "a")), None, None, r"same name(.|\n)*0: 'a', 2: 'a'(.|\n)*number"),
    ],
)
def test_labels_and_names_that_contradict_are_refused(images, given, num_classes, message) -> None:
    with pytest.raises(DataError, match=message):
        choose_classes(images, given, num_classes)


def test_repeated_names_are_told_apart_by_their_labels() -> None:
    images = _images([0, 1, 2], ("crane", "owl", "crane"))
    chosen, classes = choose_classes(images, None, None, repeated_names="number")
    assert chosen.class_names == classes.names == ("crane_0", "owl", "crane_2")
    val = choose_validation(images, classes, selected=False, repeated_names="number")
    assert val.labels.tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="the same name"):
        choose_classes(_images([0, 1, 2], ("a", "a", "a_0")), None, None, repeated_names="number")


@pytest.mark.parametrize(
    ("names", "message"),
    [(("a", "b", "d"), r"without 'c' and with 'd'"), (("x", "y", "z"), "with 'x', 'y', 'z'")],
)
def test_validation_images_of_other_classes_are_refused(names, message) -> None:
    with pytest.raises(DataError, match=message):
        choose_validation(_images([0, 1], names), Classes(("a", "b", "c")), selected=False)


def test_a_validation_label_that_training_lacks_is_refused() -> None:
    with pytest.raises(DataError, match=r"label 6 of made row 1(.|\n)*labels 5, 7, 9"):
        choose_validation(_images([5, 6], None), Classes(("5", "7", "9"), (5, 7, 9)), selected=False)


def test_classes_without_images_are_named() -> None:
    images = _images([0, 2], ("a", "b", "c"))
    with pytest.raises(DataError, match=r"1 of 3 classes have no image(.|\n)*'b'"):
        refuse_empty_classes(images)
    refuse_empty_classes(replace(images, labels=np.asarray([0, 1]), class_names=("a", "b")))
