import fsspec
import numpy as np
import pytest

from edc_ray.config.dataset import DatasetSpec
from edc_ray.data.real.fake import synthetic_images, write_image_folder, write_parquet
from edc_ray.data.real.sources import open_dataset


@pytest.mark.parametrize("channels", [1, 3])
def test_classes_can_be_told_apart_by_their_mean_images(channels: int) -> None:
    train = synthetic_images(6, 20, 12, channels, seed=0)
    test = synthetic_images(6, 20, 12, channels, seed=1)
    means = np.stack([train.fetch(train.class_indices(k)).mean(axis=0).ravel() for k in range(6)])
    pixels = test.fetch(range(len(test))).reshape(len(test), 1, -1)
    guesses = ((pixels - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (guesses == test.labels).mean() > 0.5


def test_images_are_a_function_of_the_arguments() -> None:
    first, again = (synthetic_images(2, 3, 8, 3, seed=5) for _ in range(2))
    assert first.content_hash == again.content_hash
    assert synthetic_images(2, 3, 8, 3, seed=6).content_hash != first.content_hash


def test_more_images_of_a_class_leave_the_first_alone() -> None:
    few, many = synthetic_images(2, 3, 8, 1), synthetic_images(2, 5, 8, 1)
    assert np.array_equal(few.fetch(few.class_indices(1)), many.fetch(many.class_indices(1)[:3]))


@pytest.mark.parametrize("channels", [1, 3])
def test_written_folder_and_parquet_read_back_as_the_same_images(tmp_path, channels: int) -> None:
    images = synthetic_images(3, 4, 8, channels)
    write_image_folder(images, f"{tmp_path}/tree")
    write_parquet(images, f"{tmp_path}/table.parquet")
    spec = DatasetSpec.model_validate({"train": f"{tmp_path}/tree", "val": f"{tmp_path}/table.parquet"})
    opened = open_dataset(spec, seed=0)
    assert opened.train.content_hash == opened.val.content_hash == images.content_hash


def test_other_formats_are_written() -> None:
    write_image_folder(synthetic_images(2, 1, 8), "memory://fake-formats", suffix=".webp")
    assert fsspec.filesystem("memory").exists("/fake-formats/class1/00001.webp")
