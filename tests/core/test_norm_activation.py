from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from edc_ray.core.measured_input import NormFormula, NormKernels, wide
from edc_ray.core.norm_activation import NormActivation, fuse_norms
from edc_ray.core.taps import LayerTaps
from edc_ray.core.torch_kernels import TORCH_KERNELS, TorchKernels
from tests.core.layer_cases import ACTIVATIONS


class _PlainNorms:
    """`NormKernels` by torch's operations and its autograd, which count how often they are asked."""

    def __init__(self) -> None:
        self.forwards = 0

    def take(self, x_BCHW: Tensor) -> bool:
        return x_BCHW.dtype == torch.float32

    def normalised(
        self, x_BCHW: Tensor, formula: NormFormula, *, measured: bool
    ) -> tuple[Tensor, Tensor | None]:
        self.forwards += 1
        result = ACTIVATIONS[formula.activation](
            x_BCHW * formula.scale[:, None, None] + formula.shift[:, None, None]
        )
        return result, TORCH_KERNELS.statistics(x_BCHW, None) if measured else None

    def gradient(
        self,
        x_BCHW: Tensor,
        formula: NormFormula,
        upstream: Tensor | None,
        measured: Tensor | None,
        by_quantity: Sequence[Tensor | None],
    ) -> Tensor:
        x = x_BCHW.detach().requires_grad_()
        with torch.enable_grad():
            result, _ = self.normalised(x, formula, measured=False)
        gradient = torch.zeros_like(x) if upstream is None else torch.autograd.grad(result, x, upstream)[0]
        if measured is None:
            return gradient
        return TORCH_KERNELS.add_gradient(
            x_BCHW, None, measured.to(wide(x_BCHW)), by_quantity, gradient, in_place=False
        )


class _Kernels(TorchKernels):
    def __init__(self) -> None:
        self.plain = _PlainNorms()
        self.norms: NormKernels | None = self.plain


class _Block(nn.Module):
    """Norms before an activation in a Sequential, alone, used in code, of another class, in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.SiLU(),
            nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6), nn.ReLU6(inplace=True),
            nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6),
        )  # fmt: skip
        self.norm = nn.BatchNorm2d(6)
        self.own = _OwnNorm(6)
        self.shared = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU())
        self.again = self.shared[0]

    def forward(self, images: Tensor) -> Tensor:
        x = self.body(images)
        return self.again(self.shared(self.own(torch.relu(self.norm(x) + x))))


class _OwnNorm(nn.BatchNorm2d):
    pass


def _block(seed: int = 0) -> _Block:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        block = _Block().requires_grad_(False)
        for module in block.modules():
            if isinstance(module, nn.BatchNorm2d):
                for values in (module.weight, module.bias, module.running_mean):
                    values.normal_()  # pyright: ignore[reportOptionalMemberAccess]
                module.running_var.uniform_(0.5, 2)  # pyright: ignore[reportOptionalMemberAccess]
    return block.eval()


def _images() -> Tensor:
    return torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(5))


def _step(network: nn.Module, taps: LayerTaps) -> list[Tensor]:
    """Logits, all statistics and the images' gradient of a loss of both."""
    images = _images().requires_grad_()
    with taps.measuring(4) as statistics:
        result = network(images)
    quantities = [each for layer in taps.names for each in statistics[layer].quantities]
    loss = result.square().sum() + sum(
        ((index + 1) * each).sum() + each.square().sum() for index, each in enumerate(quantities)
    )
    (gradient,) = torch.autograd.grad(loss, images)
    return [result.detach(), *(each.detach() for each in quantities), gradient]


def test_a_fused_network_is_the_network() -> None:
    """Results, statistics and gradients; and every norm that may be fused is."""
    network, kernels = _block(), _Kernels()
    fused = copy.deepcopy(network)
    fuse_norms(fused, kernels)
    plain = _step(network, LayerTaps(network))
    ours = _step(fused, LayerTaps(fused, kernels=kernels))
    assert kernels.plain.forwards == 2 * 4  # forward and, in its gradient, once more
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-5, atol=2e-5)


def test_names_parameters_and_taps_stay() -> None:
    network, kernels = _block(), _Kernels()
    fused = copy.deepcopy(network)
    fuse_norms(fused, kernels)
    assert list(fused.state_dict()) == list(network.state_dict())
    assert LayerTaps(fused).kinds == LayerTaps(network).kinds
    left = [name for name, module in fused.named_modules() if type(module) is nn.BatchNorm2d]
    assert left == ["shared.0"]  # in two places
    assert type(fused.own) is _OwnNorm
    assert [type(fused.body[index]) for index in (2, 5)] == [nn.Identity, nn.Identity]
    assert isinstance(fused.shared[1], nn.ReLU)


def test_kernels_without_norms_leave_the_network_alone() -> None:
    network = _block()
    fuse_norms(network, TORCH_KERNELS)
    assert not any(isinstance(module, NormActivation) for module in network.modules())


def test_what_the_kernels_do_not_take_runs_layer_by_layer() -> None:
    network, kernels = _block().double(), _Kernels()
    images = _images().double()
    plain = network(images)
    fuse_norms(network, kernels)
    assert torch.equal(network(images), plain)
    assert kernels.plain.forwards == 0


def test_a_norm_that_learns_runs_layer_by_layer() -> None:
    norm = nn.BatchNorm2d(3).eval()
    kernels = _Kernels()
    layer = NormActivation(norm, nn.ReLU(), kernels)
    layer(_images()).sum().backward()
    assert norm.weight.grad is not None
    assert kernels.plain.forwards == 0


def test_statistics_are_shown_once_and_only_when_asked() -> None:
    layer = NormActivation(nn.BatchNorm2d(3).eval().requires_grad_(False), None, _Kernels())
    shown: list[tuple[Tensor, ...]] = []
    layer.show = shown.append
    layer(_images())
    layer(_images())
    assert len(shown) == 1
    torch.testing.assert_close(shown[0][0], _images().mean((0, 2, 3)))


def test_a_step_that_uses_nothing_but_the_statistics_or_nothing_but_the_result() -> None:
    layer = NormActivation(nn.BatchNorm2d(3).eval().requires_grad_(False), nn.SiLU(), _Kernels())
    for of_statistics in (True, False):
        gradients = []
        for kernels in (layer._kernels, TORCH_KERNELS):
            layer._kernels = kernels
            shown: list[tuple[Tensor, ...]] = []
            layer.show = shown.append
            images = _images().requires_grad_()
            result = layer(images)
            loss = shown[0][1].square().sum() if of_statistics else result.square().sum()
            gradients.append(torch.autograd.grad(loss, images)[0])
            layer._kernels = kernels
        layer._kernels = _Kernels()
        torch.testing.assert_close(*gradients)


def test_a_norm_without_running_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="running statistics"):
        NormActivation(nn.BatchNorm2d(3, track_running_stats=False), None, TORCH_KERNELS)
    with pytest.raises(ValueError, match="GELU cannot be fused"):
        NormActivation(nn.BatchNorm2d(3), nn.GELU(), TORCH_KERNELS)
