"""MobileNetV2 of half width for small images."""

from __future__ import annotations

from typing import cast

from torch import nn
from torchvision.models import MobileNetV2

# expansion, width before halving, blocks, stride of the first block
_BLOCKS = [
    [1, 16, 1, 1],
    [6, 24, 2, 1],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
]


def mobilenet_v2_small(*, num_classes: int, image_size: int, channels: int) -> MobileNetV2:
    """MobileNetV2 with half the width, expansion 6 and half of the usual total stride (16).

    Args:
        num_classes: outputs.
        image_size: side of the images. Below 32 the stem has stride 1, which leaves at least one more pixel
            to every later layer.
        channels: channels of the input.

    Source:
        Sandler et al., CVPR 2018, arXiv:1801.04381, at width 0.5 with expansion 6 as in the small settings of
        EDC, arXiv:2404.13733.
    Deviations:
        stem stride 1 for images below 32 pixels.
    """
    # Rounding to a multiple of 4 keeps the exact halves; the default of 8 would widen 12 to 16.
    network = MobileNetV2(
        num_classes=num_classes,
        width_mult=0.5,
        inverted_residual_setting=_BLOCKS,
        round_nearest=4,
        dropout=0.0,
    )
    stem_block = cast(nn.Sequential, network.features[0])
    stride = 1 if image_size < 32 else 2
    stem = nn.Conv2d(channels, 16, kernel_size=3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out")
    stem_block[0] = stem
    return network
