from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from edc_ray.report.grid import write_grid


def pixels_of(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_small_images_are_enlarged_by_squares_and_stand_row_by_row() -> None:
    images = random_images(5, 3, 8, 8)
    page = pixels_of(write_grid(images, 3))
    for index, image in enumerate(images):
        row, column = divmod(index, 3)
        top, left = 6 + row * (64 + 2), 6 + column * (64 + 2)
        shown = page[top : top + 64, left : left + 64]
        np.testing.assert_array_equal(shown[4::8, 4::8], image.transpose(1, 2, 0))
        np.testing.assert_array_equal(shown, shown[::8, ::8].repeat(8, 0).repeat(8, 1))


def test_grey_images_are_shown_with_three_equal_channels() -> None:
    images = random_images(1, 1, 80, 80)
    page = pixels_of(write_grid(images, 1))
    np.testing.assert_array_equal(page[6:86, 6:86], images[0].transpose(1, 2, 0).repeat(3, 2))


def test_row_names_and_title_make_room_and_leave_the_pixels_alone() -> None:
    images = random_images(4, 3, 64, 64)
    plain = pixels_of(write_grid(images, 2))
    named = pixels_of(write_grid(images, 2, row_names=["cat", "dog"], title="before"))
    assert named.shape[0] > plain.shape[0]
    assert named.shape[1] > plain.shape[1]
    np.testing.assert_array_equal(named[-136:-6, -136:-6], plain[6:136, 6:136])
    assert (named[:, :-136] < 100).any(), "no ink left of the grid"


def test_a_title_wider_than_the_grid_is_shown_to_its_end() -> None:
    images = np.zeros((1, 3, 64, 64), np.uint8)
    title = "a title that is much wider than one image"
    narrow = pixels_of(write_grid(images, 1, row_names=["class 7"], title=title))
    wide = pixels_of(write_grid(images.repeat(9, 0), 9, row_names=["class 7"], title=title))
    ink = lambda page: int((page[6:20] < 128).sum())  # noqa: E731
    assert ink(narrow) == ink(wide)


def test_a_long_row_name_is_shortened() -> None:
    page = pixels_of(write_grid(random_images(1, 3, 64, 64), 1, row_names=["n" * 500]))
    assert page.shape[1] < 300


def test_a_missing_last_image_leaves_paper() -> None:
    page = pixels_of(write_grid(np.zeros((3, 3, 64, 64), np.uint8), 2))
    assert (page[-70:-6, -70:-6] == 255).all()


@pytest.mark.parametrize(
    ("images", "columns", "names", "message"),
    [
        (np.zeros((1, 3, 8, 8), np.float32), 1, [], "uint8"),
        (np.zeros((1, 2, 8, 8), np.uint8), 1, [], "1 or 3"),
        (np.zeros((0, 3, 8, 8), np.uint8), 1, [], "needs an image"),
        (np.zeros((1, 3, 8, 8), np.uint8), 0, [], "and a column"),
        (np.zeros((4, 3, 8, 8), np.uint8), 2, ["one"], "1 names for 2 rows"),
    ],
    ids=["float", "two-channels", "empty", "no-column", "names"],
)
def test_what_is_no_grid_is_refused(images: np.ndarray, columns: int, names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_grid(images, columns, row_names=names)
