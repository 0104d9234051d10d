import pytest
import torch
from torch import nn

from edc_ray.models.wide_resnet import WideResNet, wrn_16_2


def test_wrn_16_2_has_the_published_number_of_parameters() -> None:
    network = wrn_16_2(num_classes=100, image_size=32, channels=3)
    assert sum(p.numel() for p in network.parameters()) == 703_284


def test_wrn_16_2_is_sixteen_layers_deep_besides_its_shortcuts() -> None:
    network = wrn_16_2(num_classes=10, image_size=32, channels=3)
    kernels = [m.kernel_size for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert kernels.count((3, 3)) == 13
    assert kernels.count((1, 1)) == 3


def test_last_group_halves_twice() -> None:
    network = wrn_16_2(num_classes=10, image_size=32, channels=3)
    x = network.layer3(network.layer2(network.layer1(network.conv1(torch.zeros(1, 3, 32, 32)))))
    assert x.shape == (1, 128, 8, 8)


def test_a_depth_that_is_not_six_n_plus_four_is_refused() -> None:
    with pytest.raises(ValueError, match="6n"):
        WideResNet(num_classes=10, channels=3, depth=18, widening=2)
