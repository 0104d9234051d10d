import os
import pickle

import fsspec
import numpy as np
import pytest

from edc_ray.data.real.folders import (
    FileReader,
    doubt_classes,
    holds_inner_splits,
    holds_splits,
    read_image_folder,
    read_image_glob,
    split_folder,
)
from edc_ray.data.real.undecoded import BadImageError
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


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("README.txt", None),
        ("LICENSE", None),
        ("class0/notes.txt", "files that are not read: .txt, such as class0/notes.txt (1)"),
        ("class0/0001", "files that are not read: no suffix, such as class0/0001 (1)"),
        ("class3.zip", "files that are not read: .zip, such as class3.zip (1)"),
        ("metadata.jsonl", "files that are not read: .jsonl, such as metadata.jsonl (1)"),
        ("loose.png", "images that are in no class folder: .png, such as loose.png (1)"),
    ],
)
def test_what_is_no_image_of_a_class_is_left_out_and_told(tree: str, path: str, told, caplog) -> None:
    with open(f"{tree}/{path}", "wb") as file:
        file.write(b"x")
    images = _read(tree)
    assert (len(images.labels), len(images.class_names or ())) == (6, 3)
    assert (f"left out {told}" in caplog.text) if told else not caplog.records


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


def _files(*paths: str) -> dict[str, dict[str, int]]:
    return {f"d/{path}": {"size": 1} for path in paths}


def test_folders_that_may_be_splits_or_classes_are_refused_or_doubted(caplog) -> None:
    doubt_classes("d", _files("car/side/1.png", "bus/side/1.png", "bus/2.png"), "d")
    assert not caplog.records
    doubt_classes("d", _files("fold1/a/1.png", "fold1/b/1.png", "fold2/a/1.png", "fold2/b/1.png"), "d")
    assert "takes the folders fold1, fold2 for the classes" in caplog.text
    with pytest.raises(DataError, match=r"may be splits or classes(.|\n)*more, train"):
        doubt_classes("d", _files("train/a/1.png", "train/b/1.png", "more/a/1.png", "more/b/1.png"), "d")


def test_splits_inside_the_classes_are_told_from_folders_of_one_class() -> None:
    assert holds_inner_splits("d", _files("a/train/1.png", "a/test/1.png", "b/train/1.png"))
    assert not holds_inner_splits("d", _files("toy/train/1.png", "toy/car/1.png", "real/car/1.png"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train/1.png", "test/1.png"), "lie in folders of splits, not of classes"),
        (("all/a/1.png", "all/b/1.png"), r"single folder, with folders inside(.|\n)*/all"),
    ],
)
def test_trees_without_class_folders_at_the_top_are_refused(tmp_path, names, message: str) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=message):
        _read(str(tmp_path))


def test_a_class_named_after_a_split_is_told(tree: str, caplog) -> None:
    os.rename(f"{tree}/class2", f"{tree}/test")
    assert _read(tree).class_names == ("class0", "class1", "test")
    assert "takes the folder 'test' for a class, not for a split" in caplog.text


def test_each_role_gets_its_folder() -> None:
    files = {f"d/{split}/a/0.png": {} for split in ("train", "valid", "test", "more")}
    assert split_folder("d", files, "train", "d") == "train"
    assert split_folder("d", files, "val", "d") == "valid"
    files["d/test/train-a.png"] = files[
        "d/test/train/val-1.png"
    ] = {}  # names of classes and images say nothing
    assert split_folder("d", files, "train", "d") == "train"
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


def test_a_pattern_over_folders_of_splits_is_refused() -> None:
    files = {
        f"/{animal}/{split}/1.png": {"size": 1} for animal in ("cat", "dog") for split in ("train", "test")
    }
    with pytest.raises(DataError, match=r"lie in folders of splits, not of classes(.|\n)*test, train"):
        read_image_glob(fsspec.filesystem("memory"), files, "/*/*/*.png")


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
    [item] = reader.read([3])
    assert isinstance(item, BadImageError)
    assert (item.name, item.problem) == (f"{tree}/class1/00003.png", "a link to nothing")


def test_a_digest_does_not_depend_on_where_the_tree_is() -> None:
    digests = [
        FileReader(fsspec.filesystem("memory"), [f"{root}/a/1.png"], ["a/1.png"], [7]).digest(np.asarray([0]))
        for root in ("/x", "/y")
    ]
    assert digests[0] == digests[1]
