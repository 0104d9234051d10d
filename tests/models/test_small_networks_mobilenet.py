import pytest
import torch
from torch import nn

from edc_ray.models.small_networks import InvertedResidual, mobilenet_v2_small


def test_widths_are_exact_halves() -> None:
    network = mobilenet_v2_small(num_classes=100, image_size=32, channels=3)
    norms = [m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms[0] == 16
    assert {8, 12, 16, 32, 48, 80, 160} <= set(norms)
    assert norms[-1] == 1280


@pytest.mark.parametrize(("image_size", "last_side"), [(8, 1), (16, 2), (32, 2), (64, 4)])
def test_stem_halves_images_of_32_pixels_and_more(image_size: int, last_side: int) -> None:
    with torch.device("meta"):
        network = mobilenet_v2_small(num_classes=3, image_size=image_size, channels=1)
        features = network.conv2(network.blocks(network.conv1(torch.zeros(2, 1, image_size, image_size))))
    assert features.shape == (2, 1280, last_side, last_side)


def test_the_block_that_widens_nothing_has_three_convolutions_and_relu_has_no_upper_bound() -> None:
    network = mobilenet_v2_small(num_classes=3, image_size=32, channels=3)
    first = next(network.blocks.children())
    kernels = [one.kernel_size for one in first.modules() if isinstance(one, nn.Conv2d)]
    assert kernels == [(1, 1), (3, 3), (1, 1)]
    assert not [one for one in network.modules() if isinstance(one, nn.ReLU6)]


def test_only_blocks_that_keep_the_shape_are_added_to_their_input() -> None:
    network = mobilenet_v2_small(num_classes=3, image_size=32, channels=3)
    blocks = [one for one in network.modules() if isinstance(one, InvertedResidual)]
    assert [one.is_residual for one in blocks] == [
        index in (2, 4, 5, 7, 8, 9, 11, 12, 14, 15) for index in range(17)
    ]
