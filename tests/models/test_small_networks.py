import pytest
import torch
from torch import nn

from edc_ray.models.small_networks import (
    resnet18_small,
    resnet50_small,
    resnet101_small,
    shufflenet_v2_x0_5_small,
)


@pytest.mark.parametrize("build", [resnet18_small, resnet50_small, resnet101_small])
def test_stem_keeps_the_resolution(build) -> None:
    with torch.device("meta"):
        network = build(num_classes=10, image_size=32, channels=3)
        x = torch.empty(1, 3, 32, 32)
        assert network.maxpool(network.conv1(x)).shape == (1, 64, 32, 32)
        assert network(torch.empty(2, 3, 32, 32)).shape == (2, 10)


def test_resnet18_has_the_parameters_of_the_cifar_resnet18() -> None:
    network = resnet18_small(num_classes=10, image_size=32, channels=3)
    assert sum(p.numel() for p in network.parameters()) == 11_173_962


def test_shufflenets_stages_have_one_block_more_than_three_seven_three() -> None:
    network = shufflenet_v2_x0_5_small(num_classes=10, image_size=32, channels=3)
    stages = (network.stage2, network.stage3, network.stage4)
    assert [len(stage) for stage in stages if isinstance(stage, nn.Sequential)] == [4, 8, 4]


def test_only_shufflenets_stages_halve_the_image() -> None:
    network = shufflenet_v2_x0_5_small(num_classes=10, image_size=32, channels=1)
    x = network.maxpool(network.conv1(torch.zeros(1, 1, 32, 32)))
    assert x.shape == (1, 24, 32, 32)
    assert network.conv5(network.stage4(network.stage3(network.stage2(x)))).shape == (1, 1024, 4, 4)
