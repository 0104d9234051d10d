from pathlib import Path

import pytest

from edc_ray.data.real.urls import ImagesAtUrl, find_images
from edc_ray.errors import DataError
from tests.data.made_images import synthetic_images, write_image_folder, write_parquet

IMAGES = synthetic_images(2, 3, 8)


def _labels(found: ImagesAtUrl, role) -> int:
    return len(found.read(role, image_column=None, label_column=None).labels)


@pytest.fixture
def root(tmp_path: Path) -> str:
    write_image_folder(IMAGES, f"{tmp_path}/classes")
    write_image_folder(IMAGES, f"{tmp_path}/splits/train")
    write_image_folder(IMAGES.subset([0, 3]), f"{tmp_path}/splits/val")
    for name, images in (("train-0", IMAGES), ("test-0", IMAGES.subset([0, 3]))):
        write_parquet(images, f"{tmp_path}/tables/{name}.parquet")
    for split, images in (("train", IMAGES), ("test", IMAGES.subset([0, 3]))):
        write_image_folder(images, f"{tmp_path}/made")
        for name in ("class0", "class1"):
            (tmp_path / "inner" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "made" / name).rename(tmp_path / "inner" / name / split)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("path", "form", "train", "val"),
    [
        ("classes", "classes", 6, None),
        ("splits", "splits", 6, 2),
        ("splits/val", "classes", 2, None),
        ("inner", "inner_splits", 6, 2),
        ("splits/**/*.png", "pattern", 6, 2),
        ("splits/train/*/*.png", "pattern", 6, None),
        ("splits/val*/*/*.png", "pattern", 2, None),
        ("tables", "tables", 6, 2),
        ("tables/*.parquet", "pattern", 6, 2),
        ("tables/test-0.parquet", "file", 2, None),
        ("tables/test*.parquet", "pattern", 2, None),
        ("classes/*/*.png", "pattern", 6, None),
    ],
)
def test_what_lies_at_a_url_is_found(root: str, path: str, form: str, train: int, val: int | None) -> None:
    found = find_images(f"{root}/{path}")
    assert found.form == form
    assert found.has_validation is (val is not None)
    assert _labels(found, "train") == train
    if val is not None:
        assert _labels(found, "val") == val


def test_a_linked_class_folder_is_followed(root: str, tmp_path: Path) -> None:
    (tmp_path / "subset").mkdir()
    for name in ("class0", "class1"):
        (tmp_path / "subset" / name).symlink_to(tmp_path / "classes" / name)
    assert _labels(find_images(f"{tmp_path}/subset"), "train") == 6


def test_a_test_split_without_class_folders_is_left_out_and_told(root: str, caplog) -> None:
    (Path(root) / "splits" / "val").rename(f"{root}/val")
    (Path(root) / "splits" / "test").mkdir()
    (Path(root) / "splits" / "test" / "1.png").write_bytes(b"x")
    found = find_images(f"{root}/splits")
    assert not found.has_validation
    assert _labels(found, "train") == 6
    assert "left out images that are in no class folder, such as test/1.png (1)" in caplog.text


def test_image_files_beside_parquet_files_are_told(root: str, caplog) -> None:
    write_image_folder(IMAGES, f"{root}/tables/more")
    assert find_images(f"{root}/tables").form == "tables"
    assert "reads the Parquet files (2), not the image files beside them (6)" in caplog.text


def test_files_of_several_folders_are_told(root: str, caplog) -> None:
    for name in ("small/train", "large/train", "small/test"):
        write_parquet(IMAGES, f"{root}/configs/{name}/0.parquet")
    assert _labels(find_images(f"{root}/configs"), "train") == 12
    assert "several folders as one set: large/train, small/train (2)" in caplog.text


def test_a_url_without_anything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing at"):
        find_images(f"{tmp_path}/none")
