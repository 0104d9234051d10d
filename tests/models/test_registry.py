import random

import numpy as np
import pytest
import torch
from torch import nn

from edc_ray.errors import ConfigError
from edc_ray.models.registry import SMALL_NETWORKS, build_network, check_network, network_names

# The others of ours are deeper forms of resnet18_small, and slow.
SMALL = sorted(SMALL_NETWORKS.keys() - {"resnet50_small", "resnet101_small"})


def _weights(name: str, seed: int, **options: int) -> dict[str, torch.Tensor]:
    settings = {"num_classes": 3, "image_size": 16, "channels": 3} | options
    return build_network(name, seed=seed, **settings).state_dict()


@pytest.mark.parametrize("name", ["convnet_w32", "mobilenet_v2_small", "wrn_16_2", "squeezenet1_1"])
def test_initial_weights_are_a_function_of_the_seed(name: str) -> None:
    size = 32 if name.startswith("squeeze") else 16
    first, again, other = (_weights(name, seed, image_size=size) for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_initial_weights_do_not_depend_on_the_state_of_the_process() -> None:
    torch.manual_seed(5)
    first = _weights("convnet_w32", 1)
    torch.rand(7)
    again = _weights("convnet_w32", 1)
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_building_leaves_the_random_state_of_the_process_alone() -> None:
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[union-attr]
    build_network("mobilenet_v2_small", num_classes=3, image_size=16, channels=1, seed=3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.array_equal(np.random.get_state()[1], before[2])  # type: ignore[index]


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_take_all_small_images_and_give_logits_in_both_modes(name: str) -> None:
    for image_size, channels in [(16, 3), (28, 1), (32, 3), (64, 3)]:
        check_network(name, num_classes=5, image_size=image_size, channels=channels)
    network = build_network(name, num_classes=5, image_size=8, channels=1, seed=0).to("meta")
    images = torch.zeros(2, 1, 8, 8, device="meta")
    with torch.no_grad():
        assert network(images).shape == (2, 5)
        assert network.eval()(images).shape == (2, 5)


@pytest.mark.parametrize("name", ["resnet50_small", "resnet101_small", "resnet18", "vit_b_32", "googlenet"])
@pytest.mark.parametrize("channels", [1, 3])
def test_large_networks_take_their_image_size_and_channels(name: str, channels: int) -> None:
    check_network(name, num_classes=4, image_size=64, channels=channels)


def test_every_convnet_takes_every_side_from_eight_to_1024() -> None:
    for side in (8, 9, 63, 1024):
        check_network("convnet_w32", num_classes=2, image_size=side, channels=1)


def test_an_image_that_a_network_pools_away_is_refused_before_work() -> None:
    with pytest.raises(
        ConfigError, match=r"'alexnet' cannot take images of 8x8(.|\n)*such as resnet18_small"
    ):
        build_network("alexnet", num_classes=3, image_size=8, channels=3, seed=0)


def test_an_unknown_network_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'resnet18_small'"):
        build_network("resnet18_smal", num_classes=3, image_size=8, channels=3, seed=0)


def test_names_are_unique_and_hold_no_detector() -> None:
    names = network_names()
    assert len(names) == len(set(names))
    assert "resnet18" in names
    assert "fasterrcnn_resnet50_fpn" not in names


def test_a_torchvision_network_of_one_channel_differs_in_its_first_convolution_only() -> None:
    grey = build_network("resnet18", num_classes=3, image_size=32, channels=1, seed=0)
    convolutions = [m for m in grey.modules() if isinstance(m, nn.Conv2d)]
    assert (convolutions[0].in_channels, convolutions[0].stride) == (1, (2, 2))
    assert convolutions[1].in_channels == 64


def test_a_mistake_in_a_file_of_ours_is_not_called_one_of_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SMALL_NETWORKS, "mistaken", "no_such_module")
    with pytest.raises(ImportError, match="no_such_module"):
        check_network("mistaken", num_classes=3, image_size=16, channels=3)
