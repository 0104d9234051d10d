from __future__ import annotations

import pytest
import torch

from edc_ray.core.layers.image_statistics import ImageStatistics, image_statistics
from tests.core.layer_cases import SHAPES, plain_quantities, random_input


def assert_equal_plain_formulas(measure: ImageStatistics, x: torch.Tensor, patch_side: int | None) -> None:
    """Each row equals the formulas in float64 for its image alone."""
    found = measure(x, patch_side).quantities
    for index, image in enumerate(x.double().split(1)):
        for ours, expected in zip(found, plain_quantities(image, patch_side), strict=True):
            torch.testing.assert_close(ours[index], expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_statistics_of_each_image_are_those_of_plain_formulas(shape: tuple[int, ...], mean: float) -> None:
    for patch_side in (None, 4, 16):
        assert_equal_plain_formulas(image_statistics, random_input(shape, mean), patch_side)


def test_parts_of_a_batch_are_rows_of_the_whole() -> None:
    x = random_input((5, 3, 130, 130), mean=3.0)  # two images make a part
    assert_equal_plain_formulas(image_statistics, x, 16)


def test_16_bit_activations_are_measured_in_full_numbers() -> None:
    x = random_input((2, 3, 8, 8), mean=20.0).bfloat16()
    assert_equal_plain_formulas(image_statistics, x, 4)
