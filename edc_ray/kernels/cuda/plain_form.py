"""The registered operations in torch's own, on a CPU: a capture is traced with them where there is no GPU.

Slower than `core`'s forms for a CPU; the same numbers as the Triton kernels up to rounding.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edc_ray.core.layers.image_statistics import image_statistics
from edc_ray.core.layers.layout_free import LayoutFreeKernels
from edc_ray.core.layers.measured_input import Gradients
from edc_ray.core.recover.pixel_kernels import TORCH_PIXEL_KERNELS

_KERNELS = LayoutFreeKernels()
_ACTIVATIONS = (lambda y: y, torch.relu, F.relu6, F.silu)
_SLOPES = (
    torch.ones_like,
    lambda y: (y > 0).to(y),
    lambda y: ((y > 0) & (y < 6)).to(y),
    lambda y: torch.sigmoid(y) * (1 + y * torch.sigmoid(-y)),
)


def moments(x: Tensor, side: int, each: bool, dtype: torch.dtype) -> Tensor:
    if each:
        return torch.cat(image_statistics(x, side or None).quantities, 1).to(dtype)
    return _KERNELS.statistics(x, side or None).to(dtype).unsqueeze(0)


def norm(x: Tensor, scale: Tensor, shift: Tensor, activation: int) -> Tensor:
    y = x.float() * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)
    return _ACTIVATIONS[activation](y).to(x.dtype)


def norm_moments(
    x: Tensor, scale: Tensor, shift: Tensor, activation: int, each: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    return norm(x, scale, shift, activation), moments(x, 0, each, dtype)


def moments_gradient(
    x: Tensor, side: int, measured: Tensor, by_mean: Tensor | None, by_variance: Tensor | None,
    by_tile_mean: Tensor | None, by_tile_variance: Tensor | None, upstream: Tensor | None,
) -> Tensor:  # fmt: skip
    by = [by_mean, by_variance, by_tile_mean, by_tile_variance]
    return _KERNELS.add_gradient(x, side or None, measured, Gradients(by if side else by[:2], upstream))


def norm_gradient(
    x: Tensor, scale: Tensor, shift: Tensor, activation: int, upstream: Tensor | None,
    measured: Tensor | None, by_mean: Tensor | None, by_variance: Tensor | None,
) -> Tensor:  # fmt: skip
    factor, constant = scale.view(-1, 1, 1), shift.view(-1, 1, 1)
    found = None
    if upstream is not None:
        slope = _SLOPES[activation](x.float() * factor + constant)
        found = (factor * slope * upstream).to(x.dtype)
    if measured is None:
        return torch.zeros_like(x) if found is None else found
    return _KERNELS.add_gradient(x, None, measured, Gradients([by_mean, by_variance], found, in_place=True))


def shared_view(images: Tensor, box: Tensor, last: bool) -> Tensor:
    layout = torch.channels_last if last else torch.contiguous_format
    return TORCH_PIXEL_KERNELS.view(images, box, layout)


def pixel_step(
    images: Tensor, first: Tensor, second: Tensor, gradient: Tensor, rates: Tensor, low: Tensor, high: Tensor,
    keep_first: float, keep_second: float,
) -> None:  # fmt: skip
    TORCH_PIXEL_KERNELS.step(images, (first, second), gradient, rates, (low, high), (keep_first, keep_second))
