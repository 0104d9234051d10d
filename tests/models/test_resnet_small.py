import pytest
import torch

from edc_ray.models.resnet_small import resnet18_small, resnet50_small, resnet101_small


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
