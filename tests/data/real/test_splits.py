import logging

import pytest

from edc_ray.data.real.splits import choose_split, has_both_roles, is_split_folder, split_of
from edc_ray.errors import DataError


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002.parquet", "train"),
        ("train", "train"),
        ("Training", "train"),
        ("train2017", "train"),
        ("cifar_train.parquet", "train"),
        ("val-0.parquet", "validation"),
        ("dev.parquet", "validation"),
        ("eval-0000.parquet", "test"),
        ("mnist-test.parquet", "test"),
        ("extra-0.parquet", "extra"),
        ("train_extra", "extra"),
        ("unlabeled-train.parquet", "unlabeled"),
        ("0000.parquet", None),
        ("trainset.parquet", "train"),
        ("trainval", "train"),
        ("Test_Images", "test"),
        ("valdata-1.parquet", "validation"),
        ("holdout", "test"),
        ("dataset", None),
        ("set", None),
        ("latest.parquet", None),
        ("train-test.parquet", None),
        ("default", None),
    ],
)
def test_words_that_stand_alone_name_a_split(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_folders_of_a_split_are_told_from_class_folders() -> None:
    assert all(map(is_split_folder, ("train", "TESTSET", "holdout", "valid")))
    assert not any(map(is_split_folder, ("train0", "dataset", "trains", "test tube")))


def _choose(paths: list[str], role) -> list[str]:
    return choose_split(paths, "d", role, "d")


HUB = ["d/default/train/0000.parquet", "d/default/train/0001.parquet", "d/default/test/0000.parquet"]
FILES = ["d/test-0.parquet", "d/train-1.parquet", "d/train-0.parquet"]


@pytest.mark.parametrize(
    ("paths", "train", "val"),
    [
        (HUB, HUB[:2], HUB[2:]),
        (FILES, [FILES[2], FILES[1]], FILES[:1]),
        ([*FILES, "d/validation-0.parquet"], [FILES[2], FILES[1]], ["d/validation-0.parquet"]),
        ([*FILES, "d/extra-0.parquet", "d/dev-0.parquet"], [FILES[2], FILES[1]], ["d/dev-0.parquet"]),
        (["d/x-train.parquet", "d/x-eval.parquet"], ["d/x-train.parquet"], ["d/x-eval.parquet"]),
        (["d/b.parquet", "d/a.parquet"], ["d/a.parquet", "d/b.parquet"], ["d/a.parquet", "d/b.parquet"]),
        (
            ["d/train/a.parquet", "d/train/unlabeled-b.parquet", "d/test/a.parquet"],
            ["d/train/a.parquet"],
            ["d/test/a.parquet"],
        ),
    ],
)
def test_each_role_gets_its_own_files(paths, train, val) -> None:
    assert _choose(paths, "train") == train
    assert _choose(paths, "val") == val


def test_the_folder_that_the_user_named_says_nothing() -> None:
    assert choose_split(["/t/test/train/x/0.parquet"], "/t/test/train/x", "val", "x") == [
        "/t/test/train/x/0.parquet"
    ]


def test_what_is_left_out_is_said(caplog) -> None:
    with caplog.at_level(logging.INFO):
        _choose([*FILES, "d/extra-0.parquet", "d/notes.parquet"], "train")
    assert "left out: test, such as test-0.parquet (files: 1)" in caplog.text
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert ["extra-0.parquet" in line or "notes.parquet" in line for line in warned] == [True, True]


@pytest.mark.parametrize("paths", [["d/test-0.parquet"], ["d/data-0.parquet", "d/data_test.parquet"]])
def test_a_role_without_files_of_its_split_is_refused_and_no_test_images_are_offered(paths) -> None:
    with pytest.raises(DataError, match=r"which files hold the training images") as caught:
        _choose(paths, "train")
    assert "test" not in str(caught.value.next)
    with pytest.raises(DataError, match="validation images"):
        _choose(["d/train-0.parquet"], "val")


def test_a_validation_split_beside_training_is_seen() -> None:
    assert has_both_roles(FILES, "d")
    assert not has_both_roles(FILES[1:], "d")
    assert not has_both_roles(FILES[:1], "d")
