"""The passes over the pixels (`core.recover.pixel_kernels`) as Triton kernels."""

# A kernel is called with what Triton makes of it: the grid in brackets, the options of its compiler.
# pyright: reportCallIssue=false, reportIndexIssue=false
from __future__ import annotations

import torch
from torch import Tensor

from edc_ray.core.recover.pixel_kernels import ADAM_EPSILON, TORCH_PIXEL_KERNELS, PixelKernels
from edc_ray.kernels.cuda import plain_form
from edc_ray.kernels.cuda.launches import power_of_two
from edc_ray.kernels.cuda.registration import operation
from edc_ray.kernels.cuda.view_pass import pixel_step, view_gradient_pass, view_pass

_PIXELS_AT_A_TIME = 256
_NUMBERS_AT_A_TIME = 1024


class TritonPixelKernels(PixelKernels):
    """See `PixelKernels`. Pixels are float32."""

    def view(self, images_BCHW: Tensor, box_5: Tensor, memory_format: torch.memory_format) -> Tensor:
        last = memory_format == torch.channels_last
        return torch.ops.edc_ray.shared_view(images_BCHW.detach(), box_5, last)

    def view_gradient(self, by_view_BCHW: Tensor, box_5: Tensor) -> Tensor:
        return torch.ops.edc_ray.shared_view_gradient(by_view_BCHW, box_5)

    def step(
        self,
        images_BCHW: Tensor,
        moments: tuple[Tensor, Tensor],
        gradient_BCHW: Tensor,
        rates_2: Tensor,
        bounds: tuple[Tensor, Tensor],
        betas: tuple[float, float],
    ) -> None:
        torch.ops.edc_ray.pixel_step(images_BCHW, *moments, gradient_BCHW, rates_2, *bounds, *betas)


def _empty_view(images: Tensor, box: Tensor, last: bool) -> Tensor:
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.empty_like(images, memory_format=layout)


@operation(
    "shared_view", "(Tensor images, Tensor box, bool last) -> Tensor", plain_form.shared_view, _empty_view
)
def _shared_view(images: Tensor, box: Tensor, last: bool) -> Tensor:
    view = _empty_view(images, box, last)
    view_pass[_grid(images)](images.contiguous(), box, view, *_sizes(view), num_warps=4)
    return view


@operation(
    "shared_view_gradient",
    "(Tensor by_view, Tensor box) -> Tensor",
    TORCH_PIXEL_KERNELS.view_gradient,
    lambda by_view, box: _empty_view(by_view, box, last=False),
)
def _shared_view_gradient(by_view: Tensor, box: Tensor) -> Tensor:
    if not by_view.is_contiguous(memory_format=torch.channels_last):
        by_view = by_view.contiguous()
    by_rows = torch.empty_like(by_view)
    by_images = torch.empty_like(by_view, memory_format=torch.contiguous_format)
    *sizes, channels, pixels = _sizes(by_view)
    steps = sizes[-2:]
    for source, target, out_steps in (
        (by_view, by_rows, steps),
        (by_rows, by_images, (by_view.shape[2] * by_view.shape[3], 1)),
    ):
        view_gradient_pass[_grid(by_view)](
            source, box, target, *sizes, *out_steps,
            BC=channels, BLOCK=pixels, ROWS=target is by_rows, num_warps=4,
        )  # fmt: skip
    return by_images


@operation(
    "pixel_step",
    "(Tensor(a!) images, Tensor(b!) first, Tensor(c!) second, Tensor gradient, Tensor rates, Tensor low, "
    "Tensor high, float keep_first, float keep_second) -> ()",
    plain_form.pixel_step,
    lambda *arguments: None,
)
def _pixel_step(
    images: Tensor, first: Tensor, second: Tensor, gradient: Tensor, rates: Tensor, low: Tensor, high: Tensor,
    keep_first: float, keep_second: float,
) -> None:  # fmt: skip
    grid = (-(-images.numel() // _NUMBERS_AT_A_TIME),)
    pixel_step[grid](
        images, first, second, gradient.contiguous(), rates, low, high,
        images.numel(), images.shape[1], images.shape[2] * images.shape[3],
        KEEP_FIRST=keep_first, KEEP_SECOND=keep_second, EPSILON=ADAM_EPSILON, BLOCK=_NUMBERS_AT_A_TIME,
        num_warps=4,
    )  # fmt: skip


def _grid(images: Tensor) -> tuple[int, int]:
    return -(-images.shape[2] * images.shape[3] // _PIXELS_AT_A_TIME), images.shape[0]


def _sizes(view: Tensor) -> tuple[int, ...]:
    """Channels, height, width, the view's steps to the next channel and pixel, and the blocks' sizes."""
    _, channels, height, width = view.shape
    last = channels > 1 and view.is_contiguous(memory_format=torch.channels_last)
    steps = (1, channels) if last else (height * width, 1)
    return channels, height, width, *steps, power_of_two(channels), _PIXELS_AT_A_TIME
