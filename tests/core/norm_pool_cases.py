"""Inputs of `core.layers.norm_pool`, and what torch's own layers make of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from edc_ray.core.layers.norm_pool import NormPoolKernels, norm_relu_pool

EPSILON = 1e-5
SHAPES = [(3, 40, 8, 8), (2, 9, 7, 5), (2, 1, 2, 2), (1, 33, 3, 12), (2, 8, 2, 4)]


def inputs_of(shape: tuple[int, ...], dtype: torch.dtype, *, away: float = 0.0) -> tuple[Tensor, ...]:
    """x, weight, bias and the gradient by the result; means of channels are `away` standard deviations."""
    generator = torch.Generator().manual_seed(sum(shape))
    images, channels, height, width = shape
    x = torch.randn(shape, generator=generator, dtype=torch.float64) + away
    weight, bias = torch.randn(2, channels, generator=generator, dtype=torch.float64)
    by_result = torch.randn(images, channels, height // 2, width // 2, generator=generator).double()
    return tuple(each.to(dtype) for each in (x, weight, bias, by_result))


def layers(x_BCHW: Tensor, weight_C: Tensor, bias_C: Tensor) -> Tensor:
    """The three layers, one by one."""
    normed = F.group_norm(x_BCHW, x_BCHW.shape[1], weight_C, bias_C, EPSILON)
    return F.avg_pool2d(normed.relu(), 2)


def made_by(kernels: NormPoolKernels | None, *inputs: Tensor) -> list[Tensor]:
    """The result and the gradients by x, weight and bias: of an implementation, or of the layers."""
    x, weight, bias, by_result = (each.detach().clone() for each in inputs)
    leaves = [each.requires_grad_() for each in (x, weight, bias)]
    result = layers(x, weight, bias) if kernels is None else norm_relu_pool(x, weight, bias, EPSILON, kernels)
    return [result.detach(), *torch.autograd.grad(result, leaves, by_result)]
