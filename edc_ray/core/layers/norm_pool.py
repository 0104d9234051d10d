"""Instance norm, ReLU and 2x2 average pooling as one operation: the block of a ConvNet after its convolution.

Each of the three takes one or two passes over memory, and as many for its gradient; the pooling alone takes
as long as a convolution. Together they take one pass over an input in the cache. B images, C channels, H W
pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class NormPoolKernels:
    """The pass forward and the pass backward in torch's operations; a subclass is faster.

    The pooling adds four strided views: torch's own takes ten times as long.
    """

    memory_format: torch.memory_format = torch.contiguous_format  # of the input: best for these kernels

    def forward(
        self, x_BCHW: Tensor, weight_C: Tensor, bias_C: Tensor, epsilon: float
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The result [B, C, H // 2, W // 2], and what `backward` needs to keep."""
        images, channels, height, width = x_BCHW.shape
        normed, mean, inverse = torch.native_group_norm(
            x_BCHW.contiguous(), weight_C, bias_C, images, channels, height * width, channels, epsilon
        )
        shown = normed.relu_()
        inside = _pooled_part(shown)
        rows = inside[..., 0::2, :] + inside[..., 1::2, :]
        pooled = (rows[..., 0::2] + rows[..., 1::2]).mul_(0.25)
        return pooled, (shown, mean, inverse)

    def backward(
        self, x_BCHW: Tensor, kept: tuple[Tensor, ...], weight_C: Tensor, bias_C: Tensor, by_result: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Derivatives of a loss by the input, weight and bias, from that by the result."""
        (shown, mean, inverse), (images, channels, height, width) = kept, x_BCHW.shape
        spread = torch.zeros_like(shown) if height % 2 or width % 2 else torch.empty_like(shown)
        inside, quarter = _pooled_part(spread), by_result * 0.25
        wide = quarter.new_empty(*quarter.shape[:3], 2 * quarter.shape[3])
        wide[..., 0::2] = wide[..., 1::2] = quarter
        inside[..., 0::2, :] = inside[..., 1::2, :] = wide
        return torch.ops.aten.native_group_norm_backward(
            torch.ops.aten.threshold_backward(spread, shown, 0), x_BCHW.contiguous(), mean, inverse, weight_C,
            images, channels, height * width, channels, [True] * 3,
        )  # fmt: skip


TORCH_NORM_POOL = NormPoolKernels()


def norm_relu_pool(
    x_BCHW: Tensor, weight_C: Tensor, bias_C: Tensor, epsilon: float, kernels: NormPoolKernels
) -> Tensor:
    """Mean over 2x2 pixels of max(0, weight * (x - mean) / sqrt(variance + epsilon) + bias).

    Mean and biased variance are those of each channel of each image. Differentiable once in the first three,
    which have one dtype. The result is [B, C, H // 2, W // 2]; an odd last row or column counts for the norm
    alone.
    """
    return _NormReluPool.apply(x_BCHW, weight_C, bias_C, epsilon, kernels)  # pyright: ignore[reportReturnType]


class _NormReluPool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_BCHW: Tensor, weight_C: Tensor, bias_C: Tensor, epsilon: float, kernels: NormPoolKernels
    ) -> Tensor:
        pooled, kept = kernels.forward(x_BCHW, weight_C, bias_C, epsilon)
        ctx.kernels = kernels
        ctx.save_for_backward(x_BCHW, weight_C, bias_C, *kept)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_result: Tensor) -> Any:
        x_BCHW, weight_C, bias_C, *kept = ctx.saved_tensors
        return *ctx.kernels.backward(x_BCHW, tuple(kept), weight_C, bias_C, by_result), None, None


def _pooled_part(x_BCHW: Tensor) -> Tensor:
    """Without an odd last row or column."""
    return x_BCHW[..., : x_BCHW.shape[-2] // 2 * 2, : x_BCHW.shape[-1] // 2 * 2]
