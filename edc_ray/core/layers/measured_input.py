"""A layer's input is measured on its way into the layer; the gradient of its statistics is added backward.

One read of the input gives its statistics. Their derivative by a pixel is a constant of its channel and of
its place, plus a multiple of itself and (where the map is stretched for the patches) of its neighbours. One
more read adds it to the gradient that comes out of the layer. For the backward pass nothing is kept but the
input, which the layer keeps anyway. B images, C channels, H W pixels, P patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from edc_ray.core.layers.network_numerics import without_autocast

Activation = Literal["relu", "relu6", "silu"]


@dataclass(frozen=True)
class NormFormula:
    """activation(scale x + shift), scale and shift [C] of each channel: a frozen BatchNorm."""

    scale: Tensor
    shift: Tensor
    activation: Activation | None


class Gradients(NamedTuple):
    """Derivatives of a loss, from which that by an input is made; None is 0."""

    by_quantity: Sequence[Tensor | None]  # by the two or four statistics of the input
    upstream: Tensor | None  # by the norm's result for `NormKernels`; else what the layer gives for its input
    in_place: bool = False  # the memory of `upstream` may hold the result


class NormKernels(Protocol):
    """A `NormFormula` and the moments of its input in one pass."""

    dtypes: tuple[torch.dtype, ...]  # number formats of networks whose norms these kernels compute

    def take(self, x_BCHW: Tensor) -> bool:
        """Whether they can compute such an input."""
        ...

    def normalised(
        self, x_BCHW: Tensor, formula: NormFormula, *, measured: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The formula of x [B, C, H, W] and, if `measured`, mean and variance of x [2 C], `wide`."""
        ...

    def normalised_images(self, x_BCHW: Tensor, formula: NormFormula) -> tuple[Tensor, Tensor, Tensor]:
        """The formula of x, and mean and variance of every image by itself [B, C], `wide`."""
        ...

    def gradient(
        self, x_BCHW: Tensor, formula: NormFormula, measured: Tensor | None, by: Gradients
    ) -> Tensor:
        """The derivative of a loss by x; `measured` is what `normalised` gave."""
        ...


class StatisticKernels(Protocol):
    """The two passes over an input."""

    name: str
    norms: NormKernels | None  # None: a network's own layers run one after the other
    memory_format: torch.memory_format  # of images: the one in which these kernels run best

    def statistics(self, x_BCHW: Tensor, patch_side: int | None) -> Tensor:
        """Channel mean and variance [C]; with a side also patch mean and variance [P]. One `wide` vector."""
        ...

    def add_gradient(self, x_BCHW: Tensor, patch_side: int | None, measured: Tensor, by: Gradients) -> Tensor:
        """The derivative of a loss by an input; `measured` is what `statistics` gave for it."""
        ...


def wide(tensor: Tensor) -> torch.dtype:
    """The type of sums: float64 wherever the device has it."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def measure(
    x_BCHW: Tensor, patch_side: int | None, kernels: StatisticKernels, *, owns_gradient: bool = False
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The statistics of an input, and the input to go on with.

    Args:
        patch_side: side of a patch; None for channels alone.
        owns_gradient: no one else holds the gradient of the returned input, so that the statistics' part may
            be added in place. True if a convolution or a BatchNorm is its only reader.

    Returns:
        `x_BCHW` under a new name (the same memory), and its two or four statistics, differentiable.
    """
    with without_autocast(x_BCHW.device):
        passed, *quantities = _Measure.apply(x_BCHW, patch_side, kernels, owns_gradient)  # pyright: ignore[reportGeneralTypeIssues]
    return passed, tuple(quantities)


class _Measure(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_BCHW: Tensor, patch_side: int | None, kernels: StatisticKernels, owns_gradient: bool
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.patch_side, ctx.kernels, ctx.owns_gradient = patch_side, kernels, owns_gradient
        measured = kernels.statistics(x_BCHW, patch_side)
        ctx.save_for_backward(x_BCHW, measured)
        shown = x_BCHW.dtype if x_BCHW.dtype in (torch.float32, torch.float64) else torch.float32
        return (x_BCHW, *split_quantities(measured.to(shown), x_BCHW.shape[1]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor | None, *by_quantity: Tensor | None) -> Any:
        if all(gradient is None for gradient in by_quantity):
            return upstream, None, None, None
        x_BCHW, measured = ctx.saved_tensors
        by = Gradients(by_quantity, upstream, in_place=ctx.owns_gradient)
        return ctx.kernels.add_gradient(x_BCHW, ctx.patch_side, measured, by), None, None, None


def split_quantities(measured: Tensor, channels: int) -> tuple[Tensor, ...]:
    """The two or four statistics in `measured`."""
    patches = (len(measured) - 2 * channels) // 2
    return measured.split([channels, channels] + [patches, patches] * (patches > 0))
