"""A frozen BatchNorm with the activation behind it, computed and measured in one pass over the input.

In eval mode a BatchNorm is a scale and a shift of each channel. By itself it reads and writes every
activation once more, and so do its activation and the statistics of its input, forward and backward. Together
they read the input once and write the result; one expression is the derivative of all three.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from edc_ray.core.layers.measured_input import (
    Activation,
    Gradients,
    NormFormula,
    NormKernels,
    StatisticKernels,
    measure,
    split_quantities,
)

ACTIVATIONS: dict[type[nn.Module], Activation] = {nn.ReLU: "relu", nn.ReLU6: "relu6", nn.SiLU: "silu"}

Quantities = tuple[Tensor, ...]


class NormActivation(nn.BatchNorm2d):
    """A BatchNorm2d in eval mode and its activation, with the same parameters under the same names.

    It shares the tensors of `norm`, the layer that it replaces. What the `norms` of the kernels do not take
    runs layer by layer. To get the statistics of its input, set `show` before a forward. That forward calls
    it with the channels' mean and variance [C], differentiable, and then forgets it. In the same way
    `show_images` gets those of every image by itself, [B, C] in `wide` numbers without gradients, if
    `shows_images` says so.

    Raises:
        ValueError: the layer keeps no running statistics, or the activation is none of ReLU, ReLU6 and SiLU.

    Source:
        BatchNorm, Ioffe & Szegedy, ICML 2015.
    Deviations:
        none: result and gradient are those of the layers one after the other, up to rounding.
    """

    def __init__(self, norm: nn.BatchNorm2d, activation: nn.Module | None, kernels: StatisticKernels) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        if norm.running_mean is None or norm.running_var is None:
            raise ValueError("a norm without running statistics is not a scale and a shift")
        if activation is not None and type(activation) not in ACTIVATIONS:
            raise ValueError(f"{type(activation).__name__} cannot be fused with a norm")
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.train(norm.training)
        self.show: Callable[[Quantities], object] | None = None
        self.show_images: Callable[[Quantities], object] | None = None
        self._kernels = kernels
        self._activation: Activation | None = None if activation is None else ACTIVATIONS[type(activation)]
        # Not registered: the network keeps the names of its modules.
        self._behind: tuple[nn.Module, ...] = () if activation is None else (activation,)

    def forward(self, input: Tensor) -> Tensor:
        show, self.show = self.show, None
        show_images, self.show_images = self.show_images, None
        norms = self._kernels.norms
        if norms is None or not norms.take(input) or self._learns():
            return self._by_layers(input, show)
        if show_images is not None:
            result, *quantities = norms.normalised_images(input.detach(), self._formula)
            show_images(tuple(quantities))
            return result
        result, *quantities = _Fused.apply(input, self._formula, norms, show is not None)  # pyright: ignore[reportGeneralTypeIssues]
        if show is not None:
            show(tuple(quantities))
        return result

    def shows_images(self, input: Tensor) -> bool:
        """Whether `show_images` is called in a forward of this input: never where gradients are wanted."""
        norms = self._kernels.norms
        return norms is not None and norms.take(input) and not self._learns() and not torch.is_grad_enabled()

    def _learns(self) -> bool:
        return self.training or any(each.requires_grad for each in self.parameters(recurse=False))

    def _by_layers(self, input: Tensor, show: Callable[[Quantities], object] | None) -> Tensor:
        if show is not None:
            input, quantities = measure(input, None, self._kernels, owns_gradient=True)
            show(quantities)
        result = super().forward(input)
        for module in self._behind:
            result = module(result)
        return result

    @cached_property
    def _formula(self) -> NormFormula:
        return frozen_formula(self, self._activation)


def frozen_formula(norm: nn.BatchNorm2d, activation: Activation | None = None) -> NormFormula:
    """Scale and shift of a BatchNorm2d in eval mode, with the activation behind it."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        scale, shift = scale * norm.weight.double(), shift * norm.weight.double() + norm.bias.double()
    return NormFormula(scale.detach().float(), shift.detach().float(), activation)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_BCHW: Tensor, formula: NormFormula, norms: NormKernels, measured: bool
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.formula, ctx.norms = formula, norms
        result, found = norms.normalised(x_BCHW, formula, measured=measured)
        ctx.save_for_backward(x_BCHW, found)
        if found is None:
            return (result,)
        shown = x_BCHW.dtype if x_BCHW.dtype in (torch.float32, torch.float64) else torch.float32
        return (result, *split_quantities(found.to(shown), x_BCHW.shape[1]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor | None, *by_quantity: Tensor | None) -> Any:
        x_BCHW, found = ctx.saved_tensors
        by = Gradients(by_quantity or (None, None), upstream)
        return ctx.norms.gradient(x_BCHW, ctx.formula, found, by), None, None, None
