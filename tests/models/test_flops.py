from __future__ import annotations

import pytest

from edc_ray.errors import ConfigError
from edc_ray.models.flops import forward_flops


def test_a_multiply_add_of_a_convolution_counts_as_two() -> None:
    # One 3x3 convolution from 1 to 128 channels at 16x16, then 128 x 8 x 8 features to 10 classes.
    found = forward_flops("convnet_d1", num_classes=10, image_size=16, channels=1)
    assert found == 2 * (16 * 16 * 128 * 9 + 128 * 8 * 8 * 10)


def test_resnet18_at_224_has_its_published_number_of_multiply_adds() -> None:
    found = forward_flops("resnet18", num_classes=1000, image_size=224, channels=3)
    assert found / 2 == pytest.approx(1.814e9, rel=0.01)


def test_a_network_that_cannot_take_the_images_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot take images of 4x4"):
        forward_flops("alexnet", num_classes=2, image_size=4, channels=3)
