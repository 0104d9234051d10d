from __future__ import annotations

import pytest
import torch
from torch import nn

from edc_ray.models.registry import PoolToSize, build_network, with_pools_to_size


@pytest.mark.parametrize("size", [1, 6, (6, 6), (6, 3), (None, 6), (None, 2)], ids=str)
def test_results_are_those_of_torchs_layer(size: int | tuple[int | None, int | None]) -> None:
    images = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(PoolToSize(size)(images), nn.AdaptiveAvgPool2d(size)(images))


def test_a_map_of_the_size_is_passed_on() -> None:
    images = torch.zeros(1, 3, 6, 6)
    assert PoolToSize((6, 6))(images) is images
    assert PoolToSize((None, 6))(images) is images
    assert PoolToSize((6, 5))(images) is not images


def test_every_adaptive_pool_is_replaced_once_and_a_subclass_is_left_alone() -> None:
    class Own(nn.AdaptiveAvgPool2d):
        pass

    network = with_pools_to_size(nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Sequential(Own(3))))
    assert [type(module) for module in network.modules()] == [nn.Sequential, PoolToSize, nn.Sequential, Own]


def test_alexnet_pools_nothing_at_224_pixels() -> None:
    with torch.device("meta"):
        network = build_network("alexnet", num_classes=3, image_size=224, channels=3, seed=0).to("meta")
    seen: list[bool] = []
    pool = next(module for module in network.modules() if isinstance(module, PoolToSize))
    pool.register_forward_hook(lambda _, inputs, output: seen.append(output is inputs[0]))
    network.eval()(torch.zeros(1, 3, 224, 224, device="meta"))
    assert seen == [True]
