"""The passes of an iteration over the pixels, without a size or a number that the host has to know.

A view's box and a step's rates are on the device, so that each replay of a captured step shows another view.
B images, C channels, H W pixels. A box is int32 [5]: top, left, height, width, flip (0 or 1).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from edc_ray.core.views.augment import AugmentParams, Taps, view_taps

ADAM_EPSILON = 1e-8


class PixelKernels:
    """The passes in torch's operations; a subclass is faster."""

    def view(self, images_BCHW: Tensor, box_5: Tensor, memory_format: torch.memory_format) -> Tensor:
        """The box of every image, resized to [H, W] with two taps an axis, then flipped; in that layout."""
        rows, columns = _taps_of(box_5, images_BCHW)
        return _mixed(_mixed(images_BCHW, rows, 2), columns, 3).contiguous(memory_format=memory_format)

    def view_gradient(self, by_view_BCHW: Tensor, box_5: Tensor) -> Tensor:
        """Derivatives by the images, contiguous, from those by the view."""
        rows, columns = _taps_of(box_5, by_view_BCHW)
        return _spread(_spread(by_view_BCHW.contiguous(), columns, 3), rows, 2)

    def step(
        self,
        images_BCHW: Tensor,
        moments: tuple[Tensor, Tensor],
        gradient_BCHW: Tensor,
        rates_2: Tensor,
        bounds: tuple[Tensor, Tensor],
        betas: tuple[float, float],
    ) -> None:
        """Adam on the images and their moments (of the gradient and of its square), in place, then clipping.

        Args:
            images_BCHW: contiguous, as the moments.
            rates_2: float32: the size of the step, learning rate / (1 - beta_1^n), and sqrt(1 - beta_2^n).
            bounds: lowest and highest pixels, each [C, 1, 1].
        """
        average, square = moments
        average.lerp_(gradient_BCHW, 1 - betas[0])
        square.mul_(betas[1]).addcmul_(gradient_BCHW, gradient_BCHW, value=1 - betas[1])
        denominator = (square.sqrt() / rates_2[1]).add_(ADAM_EPSILON)
        images_BCHW.sub_(average / denominator * rates_2[0])
        images_BCHW.clamp_(*bounds)


def shared_view(
    images_BCHW: Tensor, box_5: Tensor, kernels: PixelKernels, memory_format: torch.memory_format
) -> Tensor:
    """`augment.apply_shared_view`, up to rounding, for a box on the device. Differentiable."""
    return _SharedView.apply(images_BCHW, box_5, kernels, memory_format)  # pyright: ignore[reportReturnType]


class _SharedView(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, box_5: Tensor, kernels: PixelKernels, memory_format: torch.memory_format
    ) -> Tensor:
        ctx.save_for_backward(box_5)
        ctx.kernels = kernels
        return kernels.view(images, box_5, memory_format)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_view: Tensor) -> Any:
        (box_5,) = ctx.saved_tensors
        return ctx.kernels.view_gradient(by_view, box_5), None, None, None


def _taps_of(box_5: Tensor, images_BCHW: Tensor) -> tuple[Taps, Taps]:
    """Taps of rows and of columns, on the box's device."""
    top, left, height, width, flip = box_5.long().unsqueeze(1).unbind()
    params = AugmentParams(top, left, height, width, flip.bool())
    return view_taps(params, (images_BCHW.shape[-2], images_BCHW.shape[-1]))


def _mixed(images: Tensor, taps: Taps, axis: int) -> Tensor:
    first, second, weight = taps.first[0], taps.second[0], _along(taps, axis)
    return images.index_select(axis, first) * (1 - weight) + images.index_select(axis, second) * weight


def _spread(by_view: Tensor, taps: Taps, axis: int) -> Tensor:
    first, second, weight = taps.first[0], taps.second[0], _along(taps, axis)
    spread = torch.zeros_like(by_view).index_add_(axis, first, by_view * (1 - weight))
    return spread.index_add_(axis, second, by_view * weight)


def _along(taps: Taps, axis: int) -> Tensor:
    return taps.weight[0][:, None] if axis == 2 else taps.weight[0]


TORCH_PIXEL_KERNELS = PixelKernels()
