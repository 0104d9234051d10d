import logging

import numpy as np
import pytest

from edc_ray.data.real import inference
from edc_ray.data.real.images import DenseImages, EncodedImages
from edc_ray.data.real.inference import Looks, look_at, mean_and_std
from edc_ray.data.real.undecoded import Decoding, MemoryReader, UndecodedImages
from edc_ray.errors import DataError
from tests.data.made_images import synthetic_images


def _undecoded(*sizes: tuple[int, ...]) -> UndecodedImages:
    items = [np.zeros(size, np.uint8) for size in sizes]
    labels = np.zeros(len(items), np.int64)
    return UndecodedImages(MemoryReader(items, "made"), np.arange(len(items)), labels, ("a", "b"), "made")


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(8, 8), (8, 8)], (8, 1)),
        ([(8, 8, 3), (8, 8)], (8, 3)),
        ([(28, 40), (28, 28), (50, 50)], (28, 1)),
        ([(30, 40), (60, 45), (70, 90)], (48, 1)),
        ([(3000, 2000)], (1024, 1)),
    ],
)
def test_side_is_the_common_one_or_the_median(sizes, expected) -> None:
    found = look_at(_undecoded(*sizes), None, None, "white")
    assert found == Looks(*expected, grey=expected[1] == 1, shown_otherwise=False)


def test_mixed_sizes_are_said(caplog) -> None:
    with caplog.at_level(logging.INFO):
        look_at(_undecoded((30, 40), (60, 45), (70, 90)), None, None, "white")
    assert "30 to 70 pixels; all become 48x48" in caplog.text


def test_given_values_win() -> None:
    looks = look_at(_undecoded((30, 40), (60, 45)), 16, 3, "white")
    assert (looks.image_size, looks.channels) == (16, 3)


def test_colour_against_one_channel_and_tiny_images_are_refused() -> None:
    with pytest.raises(DataError, match=r"coloured(.|\n)*1 of 2(.|\n)*dataset\.channels=3"):
        look_at(_undecoded((8, 8), (8, 8, 3)), None, 1, "white")
    with pytest.raises(DataError, match="too small"):
        look_at(_undecoded((3, 3)), None, None, "white")


def test_a_corrupt_header_is_named() -> None:
    reader = MemoryReader([b"junk"], ["a/1.png"])
    images = UndecodedImages(reader, np.arange(1), np.zeros(1, np.int64), ("a", "b"), "made")
    with pytest.raises(DataError, match=r"a/1\.png"):
        look_at(images, None, None, "white")


def test_mean_and_std_equal_those_of_all_pixels() -> None:
    images = synthetic_images(3, 5, 8, 3)
    pixels = images.images / 255
    mean, std = mean_and_std(images, None, None)
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 2, 3)), atol=5e-7)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 2, 3)), atol=5e-7)
    assert mean_and_std(images, (0.5, 0.5, 0.5), None) == ((0.5, 0.5, 0.5), std)


def test_a_set_decoded_on_demand_is_sampled(monkeypatch) -> None:
    monkeypatch.setattr(inference, "MAX_MEASURED", 2)
    pixels = np.asarray([0, 77, 77, 255], np.uint8)[:, None, None] * np.ones((1, 4, 4), np.uint8)
    reader = MemoryReader(pixels, "made")
    images = EncodedImages(reader, np.arange(4), np.zeros(4), ("a", "b"), Decoding(1, 4))
    assert mean_and_std(images, None, None) == ((0.5,), (0.5,))


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5,), None, "mean contradicts"),
        (None, (1.0, 1.0), "std contradicts"),
        (None, (1.0, 0.0, 1.0), "positive"),
    ],
)
def test_values_that_do_not_fit_the_channels_are_refused(mean, std, message) -> None:
    with pytest.raises(DataError, match=message):
        mean_and_std(synthetic_images(2, 1, 8, 3), mean, std)


def test_constant_images_are_refused() -> None:
    with pytest.raises(DataError, match="same value in every pixel"):
        mean_and_std(DenseImages(np.full((2, 1, 4, 4), 9, np.uint8), [0, 1], ("a", "b")), None, None)
