import torch
from torch import nn

from edc_ray.models.shufflenet_small import shufflenet_v2_x0_5_small


def test_stages_have_one_block_more_than_three_seven_three() -> None:
    network = shufflenet_v2_x0_5_small(num_classes=10, image_size=32, channels=3)
    stages = (network.stage2, network.stage3, network.stage4)
    assert [len(stage) for stage in stages if isinstance(stage, nn.Sequential)] == [4, 8, 4]


def test_only_the_stages_halve_the_image() -> None:
    network = shufflenet_v2_x0_5_small(num_classes=10, image_size=32, channels=1)
    x = network.maxpool(network.conv1(torch.zeros(1, 1, 32, 32)))
    assert x.shape == (1, 24, 32, 32)
    assert network.conv5(network.stage4(network.stage3(network.stage2(x)))).shape == (1, 1024, 4, 4)
