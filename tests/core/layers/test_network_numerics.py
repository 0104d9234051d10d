"""The numbers in which a network computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edc_ray.core.layers.network_numerics import FLOAT32, NetworkNumerics, without_autocast
from tests.core.tiny_observers import make_observer, random_images

CPU = torch.device("cpu")


@pytest.fixture
def network() -> nn.Module:
    return make_observer("a", 1).network


def test_float32_is_the_network_itself(network: nn.Module) -> None:
    images = random_images(3, 2)
    assert torch.equal(FLOAT32.forward(network)(images), network(images))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_are_inside_the_network_alone(network: nn.Module, dtype: torch.dtype) -> None:
    inside: list[torch.dtype] = []
    network[4].register_forward_hook(lambda module, arguments, output: inside.append(output.dtype))  # type: ignore[index]
    network.requires_grad_(True)
    logits = NetworkNumerics(dtype).forward(network)(random_images(3, 2))
    logits.square().sum().backward()
    assert inside == [dtype]
    assert logits.dtype == torch.float32
    assert {parameter.grad.dtype for parameter in network.parameters() if parameter.grad is not None} == {
        torch.float32
    }
    exact = network(random_images(3, 2))
    assert 0 < (logits - exact).abs().max() < 0.02 * exact.abs().max()


def test_images_are_laid_out_as_asked_for() -> None:
    seen: list[Tensor] = []

    class Looks(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images)
            return images.mean((2, 3))

    images = random_images(2, 1)
    NetworkNumerics(memory_format=torch.channels_last).forward(Looks())(images)
    FLOAT32.forward(Looks())(images)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert seen[1] is images


def test_an_output_that_a_later_call_overwrites_is_copied() -> None:
    static = torch.zeros(2, 3)

    class Replays(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return static.add_(1)

    forward = NetworkNumerics(copies_outputs=True).forward(Replays())
    first, second = forward(static), forward(static)
    assert (first == 1).all()
    assert (second == 2).all()


def test_the_compiler_is_given_the_network_and_its_code_is_run(network: nn.Module) -> None:
    given: list[nn.Module] = []

    def compiler(module: nn.Module) -> nn.Module:
        given.append(module)
        return nn.Flatten()

    images = random_images(2, 1)
    assert torch.equal(NetworkNumerics(compiler=compiler).forward(network)(images), images.flatten(1))
    assert given == [network]


def test_without_autocast_a_product_is_whole_again() -> None:
    x = random_images(1, 1)[0, 0]
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with without_autocast(CPU):
            assert (x @ x).dtype == torch.float32
    with without_autocast(CPU):
        assert not torch.is_autocast_enabled("cpu")
