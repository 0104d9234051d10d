from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edc_ray.kernels.cpu.fused_network import sole_readers

CLASSES = (nn.Conv2d, nn.BatchNorm2d, nn.ReLU)


class Uses(nn.Module):
    """Conv, norm and activation, combined by a user's own code."""

    def __init__(self, use: Callable[[Uses, Tensor], Tensor], *, inplace: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace))
        self.use = use
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self, x)


def raw_and_activated(net: Uses, x: Tensor) -> Tensor:
    y = net.body[:2](x)
    return y + net.body[2](y)


def activated_elsewhere(net: Uses, x: Tensor) -> Tensor:
    return net.body[2](net.body[:2](x) - 1)


def part_is_read(net: Uses, x: Tensor) -> Tensor:
    y = net.body[:2](x)
    return net.body[2](y) * y[:, :1].mean()


def changed_between(net: Uses, x: Tensor) -> Tensor:
    return net.body[2](net.body[:2](x).add_(1))


def left_out(net: Uses, x: Tensor) -> Tensor:
    return net.body[:2](x)


def twice(net: Uses, x: Tensor) -> Tensor:
    return net.body[2](net.body(x))


OTHERWISE = (raw_and_activated, activated_elsewhere, part_is_read, changed_between, left_out, twice)


def found(net: Uses) -> list[tuple[int, int]]:
    """Indices of layers and of their readers."""
    readers, layers = sole_readers(net, torch.zeros(1, 3, 8, 8), CLASSES), list(net.body)
    return [(layers.index(layer), layers.index(reader)) for layer, reader in readers.items()]


@pytest.mark.parametrize("inplace", [False, True])
def test_layers_that_pass_their_result_on_are_found_however_they_are_called(inplace: bool) -> None:
    whole: list[Callable[[Uses, Tensor], Tensor]] = [
        lambda net, x: net.body(x),
        lambda net, x: net.body[2](net.body[1](net.body[0](x))),
        lambda net, x: net.body[1:](net.body[:1](x)) + 1,
    ]
    assert [found(Uses(use, inplace=inplace)) for use in whole] == [[(0, 1), (1, 2)]] * 3


@pytest.mark.parametrize("use", OTHERWISE)
def test_a_result_that_something_else_reads_is_no_chain(use: Callable[[Uses, Tensor], Tensor]) -> None:
    assert (1, 2) not in found(Uses(use))


def test_a_result_that_is_given_back_too_is_no_chain() -> None:
    def both(net: Uses, x: Tensor) -> Tensor:
        y = net.body[:2](x)
        return [{"raw": y.flatten(1)}, net.body[2](y)]  # pyright: ignore[reportReturnType]

    assert found(Uses(both)) == [(0, 1)]


def test_what_a_layer_made_in_place_may_be_read_again() -> None:
    assert (1, 2) in found(Uses(lambda net, x: net.body(x) * 2, inplace=True))
    assert (1, 2) in found(Uses(raw_and_activated, inplace=True))  # nothing raw is left to read


def test_no_hook_is_left_behind_even_after_an_error() -> None:
    net = Uses(lambda net, x: net.body(x))
    with pytest.raises(RuntimeError):
        sole_readers(net, torch.zeros(1, 5, 8, 8), CLASSES)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in net.modules())
