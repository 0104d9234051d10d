from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

from edc_ray.core.layers.image_statistics import image_statistics
from edc_ray.core.layers.measured_input import StatisticKernels
from edc_ray.core.layers.network_numerics import FLOAT32, NetworkNumerics
from edc_ray.core.layers.norm_activation import NormActivation
from edc_ray.core.layers.taps import LayerTaps
from edc_ray.core.layers.torch_kernels import TORCH_KERNELS
from edc_ray.kernels.cpu.fused_network import Wanted, fused_network, trial_images
from edc_ray.kernels.cpu.packed_convolution import PackedConvolution, packable
from tests.core.layers.test_norm_activation import NormingKernels
from tests.kernels.cpu.test_fused_network_readers import OTHERWISE, Uses

Network = TypeVar("Network", bound=nn.Module)
WANTED: tuple[Wanted, ...] = ("gradients", "inputs", "results")


class Block(nn.Module):
    """Norms before an activation in a Sequential, alone, used in code, of another class, in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.SiLU(),
            nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6), nn.ReLU6(inplace=True),
            nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6),
        )  # fmt: skip
        self.norm = nn.BatchNorm2d(6)
        self.own = OwnNorm(6)
        self.shared = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU())
        self.again = self.shared[0]
        self.last, self.act = nn.Conv2d(6, 4, 1), nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        x = self.body(images)
        x = self.again(self.shared(self.own(torch.relu(self.norm(x) + x))))
        return self.act(self.last(x))


class OwnNorm(nn.BatchNorm2d):
    pass


def filled(network: Network) -> Network:
    """With weights and buffers unlike those of a new network."""
    generator = torch.Generator().manual_seed(0)
    for module in network.eval().requires_grad_(False).modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean):
                values.normal_(generator=generator)  # pyright: ignore[reportOptionalMemberAccess]
            module.running_var.uniform_(0.5, 2, generator=generator)  # pyright: ignore[reportOptionalMemberAccess]
    return network


def images() -> Tensor:
    return torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(5))


def fused(network: nn.Module, wanted: Wanted, kernels: NormingKernels | None = None) -> nn.Module:
    trial = trial_images(3, 9, torch.device("cpu"))
    return fused_network(network, wanted, kernels or NormingKernels(), FLOAT32, trial)


def answers(network: nn.Module, wanted: Wanted) -> list[Tensor]:
    """What a network must give: results, what its layers saw, the images' gradient of a loss of both."""
    taps, x = LayerTaps(network), images().to(next(network.parameters()).dtype)
    if wanted == "results":
        with torch.no_grad():
            return [network(x)]
    if wanted == "inputs":
        with torch.no_grad(), taps.measuring_images(image_statistics, 4) as statistics:
            result = network(x)
        return [result, *(each for layer in taps.names for each in statistics[layer].quantities)]
    x.requires_grad_()
    with taps.measuring(4) as statistics:
        result = network(x)
    quantities = [each for layer in taps.names for each in statistics[layer].quantities]
    loss = result.square().sum() + sum(
        ((index + 1) * each).sum() + each.square().sum() for index, each in enumerate(quantities)
    )
    gradient = torch.autograd.grad(loss, x)[0]
    return [result.detach(), *(each.detach() for each in quantities), gradient]


def assert_same(network: nn.Module, other: nn.Module, wanted: Wanted) -> None:
    for one, exact in zip(answers(other, wanted), answers(network.double(), wanted), strict=True):
        torch.testing.assert_close(one.double(), exact.double(), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("wanted", WANTED)
def test_a_fused_network_is_the_network(wanted: Wanted) -> None:
    """Results, what its layers see, and gradients, against the network in float64."""
    network, kernels = filled(Block()), NormingKernels()
    made = fused(network, wanted, kernels)
    before, kernels.plain.forwards = copy.deepcopy(network), 0
    assert_same(before, made, wanted)
    # Once forward and once in the gradient; or all but the norm that stands alone are folded into weights.
    assert kernels.plain.forwards == {"gradients": 2 * 4, "inputs": 4, "results": 1}[wanted]


@pytest.mark.parametrize("wanted", ["gradients", "inputs"])
def test_names_tensors_and_taps_stay(wanted: Wanted) -> None:
    network = filled(Block())
    made = fused(network, wanted)
    assert list(made.state_dict()) == list(network.state_dict())
    assert LayerTaps(made).kinds == LayerTaps(network).kinds
    left = [name for name, module in made.named_modules() if type(module) is nn.BatchNorm2d]
    assert left == ["shared.0"]  # in two places
    assert type(made.own) is OwnNorm
    assert [type(made.body[index]) for index in (2, 5)] == [nn.Identity, nn.Identity]  # pyright: ignore[reportIndexIssue]
    assert isinstance(made.shared[1], nn.ReLU)  # pyright: ignore[reportIndexIssue]


def test_the_network_itself_stays_as_it_is_and_shares_its_tensors() -> None:
    network = filled(Block())
    for wanted in WANTED:
        made = fused(network, wanted)
        assert made is not network
        assert not any(isinstance(each, (NormActivation, PackedConvolution)) for each in network.modules())
        assert made.last.weight is network.last.weight  # pyright: ignore[reportAttributeAccessIssue]


def test_convolutions_are_packed_where_no_gradient_is_wanted() -> None:
    network = filled(Block())
    if not packable(network.last):
        pytest.skip("a torch without oneDNN")
    packed = {
        wanted: sum(isinstance(each, PackedConvolution) for each in fused(network, wanted).modules())
        for wanted in WANTED
    }
    assert packed == {"gradients": 0, "inputs": 4, "results": 4}


@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("use", OTHERWISE)
def test_a_network_that_uses_a_norm_by_itself_is_still_the_network(
    use: Callable[[Uses, Tensor], Tensor], wanted: Wanted
) -> None:
    """It runs a Sequential in slices, or reads what stands between norm and activation."""
    network = filled(Uses(use))
    network.body[1].running_mean.add_(0.3)  # pyright: ignore
    if use.__name__ == "left_out":
        network.body[2] = nn.Identity()
    if use.__name__ == "twice":
        network.body[0] = nn.Conv2d(3, 4, 3, padding=1).requires_grad_(False)
    made = fused(network, wanted)
    assert_same(copy.deepcopy(network), made, wanted)


class Odd(nn.Module):
    """Conv, norm and activation whose use cannot be observed, or is not in their places."""

    def __init__(self, use: Callable[[Odd, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.others, self.use = [self.conv, self.norm, self.act], use

    def forward(self, x: Tensor) -> Tensor:
        return self.use(self, x)


def past_their_places(net: Odd, x: Tensor) -> Tensor:
    return net.act(net.norm(net.others[0](x)))


def a_norm_past_its_place(net: Odd, x: Tensor) -> Tensor:
    return net.act(net.others[1](net.conv(x)))


def several_images_otherwise(net: Odd, x: Tensor) -> Tensor:
    y = net.norm(net.conv(x))
    return net.act(y) + (y if len(x) > 1 else 0)


def by_attributes(net: Odd, x: Tensor) -> Tensor:
    y = net.conv(x) / net.norm.running_var.view(-1, 1, 1)  # pyright: ignore[reportOptionalMemberAccess]
    return net.act(net.norm(net.conv(x)) + y)


def in_torchs_layout(net: Odd, x: Tensor) -> Tensor:
    return net.act(net.norm(net.conv(x))).view(len(x), -1)


@pytest.mark.parametrize("wanted", ["inputs", "results"])
@pytest.mark.parametrize(
    "use",
    [past_their_places, a_norm_past_its_place, several_images_otherwise, by_attributes, in_torchs_layout],
)
def test_a_network_that_would_give_something_else_stays_as_it_is(
    use: Callable[[Odd, Tensor], Tensor], wanted: Wanted
) -> None:
    network = filled(Odd(use))
    made, x = fused(network, wanted), images()
    with torch.no_grad():
        torch.testing.assert_close(made(x), network(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("wanted", WANTED)
def test_what_is_no_number_stays_none(wanted: Wanted) -> None:
    """A broken observer's labels must not look like labels."""
    network = filled(Block())
    network.body[6].weight[0, 0] = torch.nan  # pyright: ignore[reportIndexIssue]
    with torch.no_grad():
        assert fused(network, wanted)(images()).isnan().any()


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("wanted", WANTED)
def test_layers_whose_weights_are_made_before_they_run_are_left_alone(wanted: Wanted) -> None:
    network = Uses(lambda net, x: net.body(x))
    nn.utils.weight_norm(network.body[0])
    filled(network)
    made, x = fused(network, wanted), images()
    with torch.no_grad():
        network.body[0].weight_g.mul_(2)  # pyright: ignore
        if wanted != "gradients":  # of which it has its own
            torch.testing.assert_close(made(x), network(x), rtol=1e-4, atol=1e-4)
    assert not any(isinstance(each, PackedConvolution) for each in made.modules())


@pytest.mark.parametrize("wanted", WANTED)
def test_nothing_is_fused_without_kernels_in_other_numbers_or_before_a_compiler(wanted: Wanted) -> None:
    network = filled(Block())
    choices: list[tuple[StatisticKernels, NetworkNumerics]] = [
        (TORCH_KERNELS, FLOAT32),
        (NormingKernels(), NetworkNumerics(torch.bfloat16)),
        (NormingKernels(), NetworkNumerics(compiler=lambda module: module)),
    ]
    made = [fused_network(network, wanted, kernels, how, images()) for kernels, how in choices]
    assert all(each is network for each in made)
