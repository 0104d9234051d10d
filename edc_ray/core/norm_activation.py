"""A frozen BatchNorm with the activation behind it, computed and measured in one pass over the input.

In eval mode a BatchNorm is a scale and a shift of each channel. By itself it reads and writes every
activation once more, and so do its activation and the statistics of its input, forward and backward. Together
they read the input once and write the result; backward, the derivatives of all three are one expression.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from edc_ray.core.measured_input import (
    Activation,
    NormFormula,
    NormKernels,
    StatisticKernels,
    measure,
    split_quantities,
)

_ACTIVATIONS: dict[type[nn.Module], Activation] = {nn.ReLU: "relu", nn.ReLU6: "relu6", nn.SiLU: "silu"}

Quantities = tuple[Tensor, ...]


class NormActivation(nn.BatchNorm2d):
    """A BatchNorm2d in eval mode and what follows it; the same parameters under the same names.

    Whoever wants the statistics of its input sets `show` before a forward: that forward calls it with the
    channels' mean and variance [C], differentiable, and forgets it.

    Args:
        norm: the layer whose place it takes; its tensors are shared, not copied.
        activation: the module behind it, or None.
        kernels: compute what their `norms` take; torch's operations do the rest.

    Raises:
        ValueError: the layer keeps no running statistics, or the activation is none of ReLU, ReLU6 and SiLU.

    Source:
        BatchNorm, Ioffe & Szegedy, ICML 2015.
    Deviations:
        none: the result and the gradient are those of the layers one after the other, up to rounding.
    """

    def __init__(self, norm: nn.BatchNorm2d, activation: nn.Module | None, kernels: StatisticKernels) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        if norm.running_mean is None or norm.running_var is None:
            raise ValueError("a norm without running statistics is none of scale and shift")
        if activation is not None and type(activation) not in _ACTIVATIONS:
            raise ValueError(f"{type(activation).__name__} cannot be fused with a norm")
        self.weight, self.bias = norm.weight, norm.bias
        self.running_mean, self.running_var = norm.running_mean, norm.running_var
        self.num_batches_tracked = norm.num_batches_tracked
        self.train(norm.training)
        self.show: Callable[[Quantities], object] | None = None
        self._kernels = kernels
        self._activation: Activation | None = None if activation is None else _ACTIVATIONS[type(activation)]
        # Not registered: the network keeps the names of its modules.
        self._behind: tuple[nn.Module, ...] = () if activation is None else (activation,)
        self._formula: NormFormula | None = None

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        show, self.show = self.show, None
        norms = self._kernels.norms
        if norms is None or not norms.take(input) or self._learns():
            return self._by_layers(input, show)
        result, *quantities = _Fused.apply(input, self._frozen(), norms, show is not None)  # pyright: ignore[reportGeneralTypeIssues]
        if show is not None:
            show(tuple(quantities))
        return result

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

    def _frozen(self) -> NormFormula:
        if self._formula is None:
            assert self.running_mean is not None
            assert self.running_var is not None
            mean, variance = self.running_mean.double(), self.running_var.double()
            scale = (variance + self.eps).rsqrt()
            shift = -mean * scale
            if self.affine:
                scale, shift = scale * self.weight.double(), shift * self.weight.double() + self.bias.double()
            self._formula = NormFormula(scale.float(), shift.float(), self._activation)
        return self._formula


def fuse_norms(network: nn.Module, kernels: StatisticKernels) -> None:
    """Puts `NormActivation` in the place of every frozen BatchNorm2d of a network that never learns again.

    A norm takes the activation behind it along where both are neighbours in a plain Sequential, since only
    there the order is known; the activation's place is then an Identity. Other classes than BatchNorm2d
    itself, and a layer that stands in two places, are left alone.
    """
    if kernels.norms is None:
        return
    places = Counter(
        id(child) for parent in network.modules() for child in parent._modules.values() if child is not None
    )
    for parent in list(network.modules()):
        children = list(parent.named_children())
        in_order = isinstance(parent, nn.Sequential) and type(parent).forward is nn.Sequential.forward
        for index, (name, child) in enumerate(children):
            if type(child) is not nn.BatchNorm2d or places[id(child)] > 1 or child.running_mean is None:
                continue
            behind = children[index + 1] if in_order and index + 1 < len(children) else None
            if behind is None or type(behind[1]) not in _ACTIVATIONS:
                parent._modules[name] = NormActivation(child, None, kernels)
            else:
                parent._modules[name] = NormActivation(child, behind[1], kernels)
                parent._modules[behind[0]] = nn.Identity()


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_BCHW: Tensor,
        formula: NormFormula,
        norms: NormKernels,
        measured: bool,
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.formula, ctx.norms = formula, norms
        result, found = norms.normalised(x_BCHW, formula, measured=measured)
        ctx.save_for_backward(x_BCHW, found)
        if found is None:
            return (result,)
        return (result, *split_quantities(found.to(x_BCHW.dtype), x_BCHW.shape[1]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor | None, *by_quantity: Tensor | None) -> Any:
        x_BCHW, found = ctx.saved_tensors
        gradient = ctx.norms.gradient(x_BCHW, ctx.formula, upstream, found, by_quantity or (None, None))
        return gradient, None, None, None
