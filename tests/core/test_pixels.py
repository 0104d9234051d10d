from __future__ import annotations

import pytest
import torch

from edc_ray.core.pixels import (
    denormalise,
    from_uint8,
    normalise,
    pixel_bounds,
    to_uint8,
)

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)


def test_denormalise_undoes_normalise() -> None:
    images = torch.rand(2, 3, 4, 4)
    torch.testing.assert_close(denormalise(normalise(images, MEAN, STD), MEAN, STD), images)


def test_the_bounds_of_pixels_are_black_and_white() -> None:
    low, high = pixel_bounds(MEAN, STD, torch.zeros(1))
    torch.testing.assert_close(normalise(torch.zeros(3, 1, 1), MEAN, STD), low)
    torch.testing.assert_close(normalise(torch.ones(3, 1, 1), MEAN, STD), high)


def test_grey_levels_survive_the_way_to_float_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    for rounding in ("trunc", "round"):
        assert torch.equal(to_uint8(from_uint8(levels), rounding), levels)


def test_truncation_and_rounding_differ_between_two_levels() -> None:
    image = torch.tensor([10.7 / 255, -1.0, 2.0])
    assert to_uint8(image, "trunc").tolist() == [10, 0, 255]
    assert to_uint8(image, "round").tolist() == [11, 0, 255]
    with pytest.raises(ValueError, match="unknown rounding"):
        to_uint8(image, "floor")  # pyright: ignore[reportArgumentType]
