"""A network with its statistics as one function."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edc_ray.core.layers.measured_network import MeasuredNetwork
from edc_ray.core.layers.network_numerics import NetworkNumerics
from edc_ray.core.layers.taps import LayerTaps
from edc_ray.core.recover.state import Observer
from tests.core.tiny_observers import make_observer, random_images


def _found(observer: Observer, patch_side: int, images: Tensor) -> list[Tensor]:
    """Logits, statistics, and the gradient of something that depends on all of them."""
    images = images.clone().requires_grad_()
    logits, statistics = observer.measured(images, patch_side)
    values = [logits, *(each for layer in statistics.values() for each in layer.quantities)]
    loss = torch.stack(
        [(each * torch.arange(1, each.numel() + 1).view_as(each)).sum() for each in values]
    ).sum()
    return [*values, *torch.autograd.grad(loss, images)]


def _with(observer: Observer, numerics: NetworkNumerics) -> Observer:
    return Observer(observer.name, observer.network, observer.taps, numerics)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("patch_side", [3, 4])
def test_it_measures_what_taps_measure(patch_side: int, dtype: torch.dtype) -> None:
    observer, images = make_observer("a", 1), random_images(3, 2)
    taps = _found(_with(observer, NetworkNumerics(dtype)), patch_side, images)
    ours = _found(_with(observer, NetworkNumerics(dtype, compiler=lambda module: module)), patch_side, images)
    tolerance = 1e-5 if dtype == torch.float32 else 0.02  # gradients meet in 16 bits
    for one, other in zip(ours, taps, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.nightly
def test_torchs_compiler_takes_it_whole() -> None:
    observer, images = make_observer("a", 1), random_images(3, 2)
    compiler = NetworkNumerics(
        compiler=lambda module: torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=False)
    )
    ours = _found(_with(observer, compiler), 3, images)
    for one, other in zip(ours, _found(observer, 3, images), strict=True):
        torch.testing.assert_close(one, other)


def test_left_out_layers_are_not_given_and_the_network_keeps_no_hooks() -> None:
    observer = make_observer("a", 1)
    ours = _with(observer, NetworkNumerics(compiler=lambda module: module))
    _, statistics = ours.measured(random_images(3, 2), 4, ["4"])
    assert tuple(statistics) == tuple(name for name in observer.taps.names if name != "4")
    assert not any(module._forward_pre_hooks for module in observer.network.modules())


def test_a_layer_that_does_not_run_is_named() -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

        def forward(self, images: Tensor) -> Tensor:
            return self.used(images).mean((2, 3))

    network = Skips()
    with pytest.raises(RuntimeError, match="layer 'idle' did not run"):
        MeasuredNetwork(network, LayerTaps(network).kinds, 4, random_images(1, 1))
