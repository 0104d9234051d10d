from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edc_ray.core.layers.measured_input import Gradients, NormFormula, NormKernels, wide
from edc_ray.core.layers.norm_activation import NormActivation
from edc_ray.core.layers.torch_kernels import TORCH_KERNELS, TorchKernels
from tests.core.layer_cases import ACTIVATIONS


class PlainNorms:
    """`NormKernels` by torch's operations and its autograd, which count how often they are asked."""

    dtypes = (torch.float32,)

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

    def normalised_images(self, x_BCHW: Tensor, formula: NormFormula) -> tuple[Tensor, Tensor, Tensor]:
        result, _ = self.normalised(x_BCHW, formula, measured=False)
        variance, mean = torch.var_mean(x_BCHW.double(), (2, 3), correction=0)
        return result, mean, variance

    def gradient(
        self, x_BCHW: Tensor, formula: NormFormula, measured: Tensor | None, by: Gradients
    ) -> Tensor:
        x = x_BCHW.detach().requires_grad_()
        with torch.enable_grad():
            result, _ = self.normalised(x, formula, measured=False)
        gradient = torch.zeros_like(x)
        if by.upstream is not None:
            (gradient,) = torch.autograd.grad(result, x, by.upstream)
        if measured is None:
            return gradient
        own = Gradients(by.by_quantity, gradient)
        return TORCH_KERNELS.add_gradient(x_BCHW, None, measured.to(wide(x_BCHW)), own)


class NormingKernels(TorchKernels):
    def __init__(self) -> None:
        self.plain = PlainNorms()
        self.norms: NormKernels | None = self.plain


def _images() -> Tensor:
    return torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(5))


def test_what_the_kernels_do_not_take_runs_layer_by_layer() -> None:
    norm, kernels = nn.BatchNorm2d(3).eval().requires_grad_(False).double(), NormingKernels()
    images = _images().double()
    with torch.no_grad():
        layer = NormActivation(norm, nn.SiLU(), kernels)
        assert not layer.shows_images(images)
        assert torch.equal(layer(images), nn.SiLU()(norm(images)))
    assert kernels.plain.forwards == 0


def test_a_norm_that_learns_runs_layer_by_layer() -> None:
    norm = nn.BatchNorm2d(3).eval()
    kernels = NormingKernels()
    layer = NormActivation(norm, nn.ReLU(), kernels)
    layer(_images()).sum().backward()
    assert norm.weight.grad is not None
    assert kernels.plain.forwards == 0


def test_statistics_are_shown_once_and_only_when_asked() -> None:
    layer = NormActivation(nn.BatchNorm2d(3).eval().requires_grad_(False), None, NormingKernels())
    shown: list[tuple[Tensor, ...]] = []
    layer.show = shown.append
    layer(_images())
    layer(_images())
    assert len(shown) == 1
    torch.testing.assert_close(shown[0][0], _images().mean((0, 2, 3)))


def test_statistics_of_every_image_are_shown_once_and_only_without_gradients() -> None:
    layer = NormActivation(nn.BatchNorm2d(3).eval().requires_grad_(False), nn.ReLU(), NormingKernels())
    assert not layer.shows_images(_images())
    shown: list[tuple[Tensor, ...]] = []
    layer.show_images = shown.append
    with torch.no_grad():
        assert layer.shows_images(_images())
        first, second = layer(_images()), layer(_images())
    assert torch.equal(first, second)
    assert len(shown) == 1
    torch.testing.assert_close(shown[0][0].float(), _images().mean((2, 3)))
    torch.testing.assert_close(shown[0][1].float(), _images().var((2, 3), correction=0))


def test_a_step_that_uses_nothing_but_the_statistics_or_nothing_but_the_result() -> None:
    layer = NormActivation(nn.BatchNorm2d(3).eval().requires_grad_(False), nn.SiLU(), NormingKernels())
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
        layer._kernels = NormingKernels()
        torch.testing.assert_close(*gradients)


def test_a_norm_without_running_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="running statistics"):
        NormActivation(nn.BatchNorm2d(3, track_running_stats=False), None, TORCH_KERNELS)
    with pytest.raises(ValueError, match="GELU cannot be fused"):
        NormActivation(nn.BatchNorm2d(3), nn.GELU(), TORCH_KERNELS)
