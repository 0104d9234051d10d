"""The ConvNet that the benchmarks' plain network and reference compute."""

from __future__ import annotations

import pytest
import torch
from reference.torch_layers import by_torch_layers
from torch import nn

from edc_ray.models import convnet
from edc_ray.models.convnet import convnet_w32


@pytest.mark.parametrize("channels", [1, 3])
def test_a_convnet_without_anything_of_ours_gives_the_same_up_to_rounding(
    channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = convnet_w32(num_classes=3, image_size=12, channels=channels)
    plain = by_torch_layers(network)
    images = torch.randn(4, channels, 12, 12, generator=torch.Generator().manual_seed(0))
    expected = network(images)

    def refuses(device: torch.device) -> None:
        raise AssertionError("kernels of ours")

    monkeypatch.setattr(convnet, "norm_pool_kernels_for", refuses)
    torch.testing.assert_close(plain(images), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(AssertionError, match="of ours"):
        network(images)
    assert list(plain.state_dict()) == list(network.state_dict())


def test_other_networks_stay_what_they_are() -> None:
    network = nn.Linear(2, 2)
    assert by_torch_layers(network) is network
