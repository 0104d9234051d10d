"""Adaptive pooling that passes a map on unchanged if it already has the size.

AlexNet and VGG pool to 6x6 and 7x7, which is the size their maps have for the images they were made for. On
CUDA the backward pass of torch's layer is not deterministic and refuses to run in deterministic mode. Passing
the map on gives the same bits.
"""

from __future__ import annotations

from torch import Tensor, nn


class PoolToSize(nn.AdaptiveAvgPool2d):
    """`nn.AdaptiveAvgPool2d`, see above."""

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
