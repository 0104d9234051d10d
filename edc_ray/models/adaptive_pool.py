"""Adaptive pooling that leaves a map alone which has the size already.

AlexNet and VGG pool to 6x6 and 7x7, the size of the maps of the images they were made for. The backward pass
of torch's layer is not deterministic on CUDA and refuses to run where that is asked for; passing the map on
gives the same bits.
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
    """The network, `PoolToSize` in the place of its adaptive pools. They have no parameters."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.AdaptiveAvgPool2d:
                setattr(parent, name, PoolToSize(child.output_size))
    return network
