"""Adaptive pooling that passes a map on unchanged if it already has the size, which gives the same bits.

AlexNet and VGG pool to the size that their maps have for images of 224 pixels. On CUDA the backward pass of
torch's layer is not deterministic and refuses to run in deterministic mode.
"""

from __future__ import annotations

from torch import Tensor, nn


class PoolToSize(nn.AdaptiveAvgPool2d):
    """See above."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, h, w]."""
        size = self.output_size
        height, width = (size, size) if size is None or isinstance(size, int) else size
        if (height or input.shape[-2], width or input.shape[-1]) == tuple(input.shape[-2:]):
            return input
        return super().forward(input)


def with_pools_to_size(network: nn.Module) -> nn.Module:
    """The network with `PoolToSize` in place of its adaptive pools, which have no parameters."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.AdaptiveAvgPool2d:
                setattr(parent, name, PoolToSize(child.output_size))
    return network
