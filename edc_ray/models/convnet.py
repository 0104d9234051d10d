"""The plain ConvNet family of the dataset condensation literature."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from edc_ray.core.layers.norm_pool import norm_relu_pool
from edc_ray.errors import ConfigError
from edc_ray.kernels.cpu.statistics import norm_pool_kernels_for


class ConvNet(nn.Module):
    """Blocks of 3x3 convolution, instance norm, ReLU and 2x2 average pool, then one linear layer.

    The norm is GroupNorm with one group per channel (affine instance norm). So the network has no BatchNorm,
    and only its convolutions (`features.0`, `features.4`, ...) take part in statistic matching. On a CPU,
    everything after a convolution is one operation: hooks on those layers are not called.

    Args:
        width: channels of every block.
        depth: number of blocks; each halves the side.

    Raises:
        ConfigError: the blocks would pool the image to less than one pixel.

    Source:
        EDC, Shao et al., NeurIPS 2024, arXiv:2404.13733 (ConvNetW128, ConvNetW32, ConvNetD1, ConvNetD2).
    """

    def __init__(self, *, num_classes: int, image_size: int, channels: int, width: int, depth: int) -> None:
        super().__init__()
        side = image_size >> depth
        if side < 1:
            raise ConfigError(
                f"a ConvNet of depth {depth} halves its input {depth} times",
                found=f"images of {image_size}x{image_size}",
                expected=f"at least {1 << depth}x{1 << depth}",
                next="choose convnet_d1 or convnet_d2, or a larger dataset.image_size",
            )
        layers: list[nn.Module] = []
        for index in range(depth):
            layers += [
                nn.Conv2d(channels if index == 0 else width, width, kernel_size=3, padding=1),
                nn.GroupNorm(width, width),
                nn.ReLU(inplace=True),
                nn.AvgPool2d(2),
            ]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width * side * side, num_classes)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Logits [B, K]."""
        # Under autocast or a compiler, which cannot trace the choice of kernels, layers run one by one.
        one_by_one = torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu")
        kernels = None if one_by_one else norm_pool_kernels_for(images_BCHW.device)
        if kernels is None:
            return self.classifier(self.features(images_BCHW).flatten(1))
        x = images_BCHW.contiguous()
        if kernels.memory_format == torch.channels_last:
            # In this way a convolution has the format even with one channel.
            x = images_BCHW.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                x = layer(x)
            elif isinstance(layer, nn.GroupNorm):
                x = norm_relu_pool(x, layer.weight, layer.bias, layer.eps, kernels)
        return self.classifier(x.flatten(1))


def convnet_w128(*, num_classes: int, image_size: int, channels: int) -> ConvNet:
    """Width 128, depth 3; less for sides below 8, where the third pool would leave no pixel."""
    depth = max(1, min(3, image_size.bit_length() - 1))
    return ConvNet(num_classes=num_classes, image_size=image_size, channels=channels, width=128, depth=depth)


def convnet_w32(*, num_classes: int, image_size: int, channels: int) -> ConvNet:
    """Width 32, depth as that of `convnet_w128`."""
    depth = max(1, min(3, image_size.bit_length() - 1))
    return ConvNet(num_classes=num_classes, image_size=image_size, channels=channels, width=32, depth=depth)


# ConvNets of width 128 with one block and with two, for images too small for three pools.
convnet_d1 = partial(ConvNet, width=128, depth=1)
convnet_d2 = partial(ConvNet, width=128, depth=2)
