import pickle

import fsspec
import numpy as np
import pytest

from edc_ray.data.real.folders import (
    FileReader,
    holds_splits,
    read_image_folder,
    read_image_glob,
    split_folder,
)
from edc_ray.errors import DataError
from tests.data.made_images import synthetic_images, write_image_folder


@pytest.fixture
def tree(tmp_path) -> str:
    write_image_folder(synthetic_images(3, 2, 8), str(tmp_path))
    return str(tmp_path)


def _read(root: str):
    filesystem = fsspec.filesystem("file")
    return read_image_folder(filesystem, root, filesystem.find(root, detail=True), root)


def test_first_level_folders_are_the_classes_and_may_be_nested(tree: str) -> None:
    filesystem = fsspec.filesystem("file")
    filesystem.makedirs(f"{tree}/class0/images")
    filesystem.mv(f"{tree}/class0/00000.png", f"{tree}/class0/images/00000.PNG")
    images = _read(tree)
    assert images.class_names == ("class0", "class1", "class2")
    assert images.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_what_is_no_image_is_passed_over(tree: str) -> None:
    filesystem = fsspec.filesystem("file")
    for path in ("README.txt", "class0/notes.txt", ".cache/x.txt", "loose.png"):
        filesystem.makedirs(f"{tree}/{path}".rsplit("/", 1)[0], exist_ok=True)
        filesystem.pipe_file(f"{tree}/{path}", b"x")
    assert len(_read(tree).labels) == 6
    assert len(_read(tree).class_names or ()) == 3


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("train", "test"), True),
        (("Train", "Valid"), True),
        (("seg_train", "seg_test", "seg_pred"), True),
        (("train",), True),
        (("train", "car"), False),
        (("test tube", "flask"), False),
    ],
)
def test_a_tree_of_splits_is_told_from_a_tree_of_classes(tmp_path, folders, expected: bool) -> None:
    files = {f"{tmp_path}/{folder}/class0/{k}.png": {"size": 1} for folder in folders for k in range(2)}
    assert holds_splits(str(tmp_path), files) is expected


def test_class_folders_named_after_splits_are_classes() -> None:
    assert not holds_splits("d", {"d/train/0.png": {}, "d/test/0.png": {}})


def test_each_role_gets_its_folder() -> None:
    files = {f"d/{split}/a/0.png": {} for split in ("train", "valid", "test", "more")}
    assert split_folder("d", files, "train", "d") == "train"
    assert split_folder("d", files, "val", "d") == "valid"
    files["d/train2017/a/0.png"] = {}
    with pytest.raises(DataError, match=r"several folders of one split(.|\n)*train, train2017"):
        split_folder("d", files, "train", "d")


def test_a_folder_without_images_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="no images in"):
        _read(str(tmp_path))


def test_a_pattern_takes_the_parent_folder_for_the_class(tree: str) -> None:
    filesystem = fsspec.filesystem("file")
    images = read_image_glob(filesystem, filesystem.glob(f"{tree}/class[02]/*.png", detail=True), "pattern")
    assert images.class_names == ("class0", "class2")
    assert images.labels.tolist() == [0, 0, 1, 1]


def test_a_pattern_without_a_match_is_refused() -> None:
    with pytest.raises(DataError, match="no images in"):
        read_image_glob(fsspec.filesystem("memory"), {}, "memory://nothing/*.png")


def test_a_reader_survives_pickling_and_names_files(tree: str) -> None:
    reader = _read(tree).reader
    again = pickle.loads(pickle.dumps(reader))
    assert again.read([3, 0]) == reader.read([3, 0])
    assert again.name(3) == f"{tree}/class1/00003.png"


def test_a_file_that_vanished_is_named(tree: str) -> None:
    reader = _read(tree).reader
    fsspec.filesystem("file").rm(f"{tree}/class1/00003.png")
    with pytest.raises(DataError, match=r"cannot read image .*00003\.png"):
        reader.read([3])


def test_a_digest_does_not_depend_on_where_the_tree_is() -> None:
    digests = [
        FileReader(fsspec.filesystem("memory"), [f"{root}/a/1.png"], ["a/1.png"], [7]).digest(np.asarray([0]))
        for root in ("/x", "/y")
    ]
    assert digests[0] == digests[1]
