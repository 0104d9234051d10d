"""A layer's input on its way into the layer: measured going forward, pushed going backward.

The statistics come from one read of the input. Their derivative by a pixel is a constant of its
channel and of its place, plus a multiple of itself and (where the map is stretched for the patches)
of its neighbours; it is added to the gradient that comes out of the layer in one more read. Nothing
is kept for the backward pass but the input, which the layer keeps anyway.
B images, C channels, H W pixels, P patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from edc_ray.core.layers.network_numerics import without_autocast

Activation = Literal["relu", "relu6", "silu"]


@dataclass(frozen=True)
class NormFormula:
    """activation(scale x + shift), with a scale and a shift of each channel [C]: a frozen BatchNorm."""

    scale: Tensor
    shift: Tensor
    activation: Activation | None


class NormKernels(Protocol):
    """A `NormFormula` and the moments of its input in one pass, in some implementation."""

    dtypes: tuple[torch.dtype, ...]  # of the networks whose norms are to be computed here

    def take(self, x_BCHW: Tensor) -> bool:
        """Whether such an input can be computed here."""
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
        self,
        x_BCHW: Tensor,
        formula: NormFormula,
        upstream: Tensor | None,
        measured: Tensor | None,
        by_quantity: Sequence[Tensor | None],
    ) -> Tensor:
        """The derivative of a loss by x, from those by the result and by mean and variance; None is 0."""
        ...


class StatisticKernels(Protocol):
    """The two passes over an input, in some implementation."""

    name: str
    norms: NormKernels | None  # None: a network's own layers run, one after the other
    memory_format: torch.memory_format  # of the images, for the network to run best with these kernels

    def statistics(self, x_BCHW: Tensor, patch_side: int | None) -> Tensor:
        """Channel mean and variance [C] and, with a side, patch mean and variance [P].

        In `wide` numbers, one behind the other.
        """
        ...

    def add_gradient(
        self,
        x_BCHW: Tensor,
        patch_side: int | None,
        measured: Tensor,
        by_quantity: Sequence[Tensor | None],
        upstream: Tensor | None,
        *,
        in_place: bool,
    ) -> Tensor:
        """The derivative of a loss by an input.

        Args:
            x_BCHW, patch_side: as they were measured.
            measured: what `statistics` gave.
            by_quantity: derivatives of the loss by the two or four statistics; None is 0.
            upstream: added to it; None is 0.
            in_place: the memory of `upstream` may be taken for the result.
        """
        ...


def wide(tensor: Tensor) -> torch.dtype:
    """The type that sums are kept in: float64 wherever the device has it."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def measure(
    x_BCHW: Tensor, patch_side: int | None, kernels: StatisticKernels, *, owns_gradient: bool = False
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The statistics of an input, and the input to go on with.

    Args:
        x_BCHW: a layer's input.
        patch_side: side of a patch; None for channels alone.
        kernels: who computes.
        owns_gradient: whether the gradient of the returned input is a tensor nobody else holds, so
            that the statistics' part may be added in place. True of a convolution and a BatchNorm as
            its only consumer.

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
        gradient = ctx.kernels.add_gradient(
            x_BCHW, ctx.patch_side, measured, by_quantity, upstream, in_place=ctx.owns_gradient
        )
        return gradient, None, None, None


def split_quantities(measured: Tensor, channels: int) -> tuple[Tensor, ...]:
    """The two or four statistics in `measured`."""
    patches = (len(measured) - 2 * channels) // 2
    return measured.split([channels, channels] + [patches, patches] * (patches > 0))
