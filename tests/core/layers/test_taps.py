from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edc_ray.core.layers.taps import LayerTaps


def _network() -> nn.Sequential:
    block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), block).eval()


def test_layers_are_found_in_module_order_with_their_kinds() -> None:
    taps = LayerTaps(_network())
    assert taps.kinds == {"0": "conv", "1": "bn", "3.0": "conv", "3.1": "bn"}
    assert taps.names == ("0", "1", "3.0", "3.1")
    assert taps.names[0] == "0"
    assert LayerTaps(_network(), ("bn",)).names == ("1", "3.1")


def test_recorded_inputs_are_what_the_layers_saw_with_gradient() -> None:
    network = _network()
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    with LayerTaps(network).recording() as inputs:
        network(x)
    assert inputs["0"] is x
    torch.testing.assert_close(inputs["1"], network[0](x))
    assert torch.autograd.grad(inputs["3.0"].sum(), x)[0].shape == x.shape


def test_no_hook_is_left_behind_even_after_an_error() -> None:
    network = _network()
    with pytest.raises(RuntimeError), LayerTaps(network).recording():
        network(torch.zeros(1, 5, 8, 8))
    assert not any(module._forward_pre_hooks for module in network.modules())


class _ChangesItsInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0
        y = self.conv(x)
        x.add_(1)
        return y


def test_an_input_changed_in_place_after_its_layer_is_refused() -> None:
    network = _ChangesItsInput()
    with (
        torch.no_grad(),
        pytest.raises(RuntimeError, match=r"'conv' was changed in place"),
        LayerTaps(network).recording(),
    ):
        network(torch.zeros(1, 3, 4, 4))


def test_recording_works_in_inference_mode() -> None:
    network = _network()
    with torch.inference_mode(), LayerTaps(network).recording() as inputs:
        network(torch.zeros(1, 3, 8, 8))
    assert list(inputs) == ["0", "1", "3.0", "3.1"]


def test_a_layer_that_does_not_run_is_refused() -> None:
    network = _network()
    with pytest.raises(RuntimeError, match=r"'3.0' did not run"), LayerTaps(network).recording():
        network[:3](torch.zeros(1, 3, 8, 8))


def test_running_statistics_are_those_of_the_batch_norm_only() -> None:
    network = _network()
    taps = LayerTaps(network)
    assert taps.running_statistics("1").channel_variance.tolist() == [1.0] * 4
    with pytest.raises(ValueError, match="'0' keeps no running"):
        taps.running_statistics("0")


def test_a_network_without_such_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="no layer"):
        LayerTaps(nn.Sequential(nn.Linear(2, 2)))
