from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edc_ray.core.layers.measured_input import measure
from edc_ray.core.layers.taps import LayerTaps
from edc_ray.core.layers.torch_kernels import TORCH_KERNELS
from tests.core.layer_cases import plain_quantities, random_input


def test_several_layers_on_one_input_add_their_gradients() -> None:
    x = random_input((2, 3, 8, 8)).requires_grad_()
    first, one = measure(x, 4, TORCH_KERNELS, owns_gradient=True)
    second, other = measure(x, None, TORCH_KERNELS, owns_gradient=True)
    loss = first.square().sum() + second.sum() + one[3].sum() * 100 + other[1].sum() * 50
    (gradient,) = torch.autograd.grad(loss, x)
    plain = plain_quantities(x, 4)
    (expected,) = torch.autograd.grad(
        x.square().sum() + x.sum() + plain[3].sum() * 100 + plain[1].sum() * 50, x
    )
    torch.testing.assert_close(gradient, expected)


def test_a_gradient_that_others_hold_is_not_written_into() -> None:
    x = random_input((2, 3, 8, 8)).requires_grad_()
    passed, quantities = measure(x, 4, TORCH_KERNELS)
    upstream = torch.ones_like(x)
    torch.autograd.grad([passed, quantities[1].sum()], x, [upstream, torch.ones(())])
    assert torch.equal(upstream, torch.ones_like(x))


def test_statistics_nobody_asks_the_gradient_of_leave_it_as_it_is() -> None:
    x = random_input((2, 3, 8, 8)).requires_grad_()
    passed, _ = measure(x, 4, TORCH_KERNELS)
    (gradient,) = torch.autograd.grad((passed * 3).sum(), x)
    assert torch.equal(gradient, torch.full_like(x, 3.0))


def test_the_input_goes_on_in_the_same_memory() -> None:
    x = random_input((2, 3, 8, 8)).requires_grad_()
    assert measure(x, 4, TORCH_KERNELS)[0].data_ptr() == x.data_ptr()
    with torch.inference_mode():
        mean = measure(x, None, TORCH_KERNELS)[1][0]
        assert torch.equal(mean, TORCH_KERNELS.statistics(x, None)[:3].float())


class _Passes(nn.Conv2d):
    """The gradient of its input is the same tensor that came from above, which other code holds too."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class _Residual(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 3, 3)
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x).tanh()
        return self.layer(hidden) + hidden


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 3, 1), _Passes(3, 3, 1), nn.BatchNorm2d(3)])
def test_measuring_a_layer_gives_the_gradient_of_its_recorded_input(layer: nn.Module) -> None:
    network = _Residual(layer).eval().requires_grad_(False)
    taps = LayerTaps(network)

    def gradient(measured: bool) -> Tensor:
        x = random_input((2, 3, 10, 10)).requires_grad_()
        if measured:
            with taps.measuring(4) as statistics:
                out = network(x)
            quantities = [each for layer in statistics.values() for each in layer.quantities]
        else:
            with taps.recording() as inputs:
                out = network(x)
            quantities = [
                each
                for name, kind in taps.kinds.items()
                for each in plain_quantities(inputs[name], 4 if kind == "conv" else None)
            ]
        loss = out.square().sum() + sum(
            (each * (10.0 + place)).sum() for place, each in enumerate(quantities)
        )
        return torch.autograd.grad(loss, x)[0]

    torch.testing.assert_close(gradient(True), gradient(False), rtol=1e-5, atol=1e-5)


def test_measuring_keeps_no_tensor_for_the_backward_pass_that_the_network_does_not_keep() -> None:
    layers = [nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16)]
    network = nn.Sequential(*layers, nn.ReLU()).eval().requires_grad_(False)
    taps = LayerTaps(network)

    def kept(measured: bool) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        x = random_input((2, 3, 60, 60)).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            if measured:
                with taps.measuring(16) as statistics:
                    out = network(x)
                loss = out.sum() + sum(each.sum() for one in statistics.values() for each in one.quantities)
            else:
                loss = network(x).sum()
        torch.autograd.grad(loss, x)
        return sum(sizes.values())

    assert kept(True) <= 1.02 * kept(False)
