"""Networks for small images that are made of torchvision's: other stems, and a MobileNetV2 of half width.

Layers of networks with other stems keep torchvision's names. All average at the end, so images may have any
side.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torchvision import models
from torchvision.models import ResNet, ShuffleNetV2
from torchvision.ops import Conv2dNormActivation

# expansion, width before halving, blocks, stride of the first block
_BLOCKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_STEM_WIDTH, _LAST_WIDTH = 16, 1280


def resnet18_small(*, num_classes: int, image_size: int, channels: int) -> ResNet:
    """ResNet-18 with a 3x3 stem of stride 1 and no max-pool.

    Source:
        EDC, Shao et al., NeurIPS 2024, arXiv:2404.13733 (ResNet18 of the CIFAR and Tiny-ImageNet settings).
    """
    return _with_small_stem(models.resnet18, num_classes, channels)


def resnet50_small(*, num_classes: int, image_size: int, channels: int) -> ResNet:
    """ResNet-50 with the stem of `resnet18_small`."""
    return _with_small_stem(models.resnet50, num_classes, channels)


def resnet101_small(*, num_classes: int, image_size: int, channels: int) -> ResNet:
    """ResNet-101 with the stem of `resnet18_small`."""
    return _with_small_stem(models.resnet101, num_classes, channels)


def shufflenet_v2_x0_5_small(*, num_classes: int, image_size: int, channels: int) -> ShuffleNetV2:
    """ShuffleNetV2 x0.5 with a 1x1 stem of stride 1 and no max-pool.

    Stages of one down-sampling and 3, 7, 3 further blocks; widths 48, 96, 192 and 1024 before the classifier.

    Source:
        Ma et al., ECCV 2018, arXiv:1807.11164, in the small form used by EDC, arXiv:2404.13733.
    """
    network = ShuffleNetV2([4, 8, 4], [24, 48, 96, 192, 1024], num_classes=num_classes)
    network.conv1[0] = nn.Conv2d(channels, 24, kernel_size=1, bias=False)
    _remove_max_pool(network)
    return network


def _with_small_stem(build: Callable[..., ResNet], num_classes: int, channels: int) -> ResNet:
    network = build(weights=None, num_classes=num_classes)
    network.conv1 = nn.Conv2d(channels, 64, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    _remove_max_pool(network)
    return network


def _remove_max_pool(network: nn.Module) -> None:
    # torchvision's type says MaxPool2d; setattr hides the change from the type checker.
    setattr(network, "maxpool", nn.Identity())  # noqa: B010


class InvertedResidual(nn.Module):
    """1x1, depthwise 3x3 and linear 1x1 convolution, added to the input if the shapes agree.

    With expansion 1 it has the first 1x1 convolution, too.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.is_residual = stride == 1 and in_channels == out_channels
        self.conv = nn.Sequential(
            *Conv2dNormActivation(in_channels, hidden, kernel_size=1),
            *Conv2dNormActivation(hidden, hidden, stride=stride, groups=hidden),
            *Conv2dNormActivation(hidden, out_channels, kernel_size=1, activation_layer=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        return x + self.conv(x) if self.is_residual else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 with half the width, ReLU, and a first block of three convolutions.

    `stem_stride` is that of the first convolution. Later ones halve the image three times.
    """

    def __init__(self, *, num_classes: int, channels: int, stem_stride: int) -> None:
        super().__init__()
        self.conv1 = Conv2dNormActivation(channels, _STEM_WIDTH, stride=stem_stride)
        width, stages = _STEM_WIDTH, list[nn.Module]()
        for expansion, whole_width, count, first_stride in _BLOCKS:
            blocks = list[nn.Module]()
            for index in range(count):
                stride = first_stride if index == 0 else 1
                blocks.append(InvertedResidual(width, whole_width // 2, stride, expansion))
                width = whole_width // 2
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv2 = Conv2dNormActivation(width, _LAST_WIDTH, kernel_size=1)
        self.classifier = nn.Linear(_LAST_WIDTH, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Logits [B, K]."""
        x = self.conv2(self.blocks(self.conv1(images_BCHW)))
        return self.classifier(x.mean(dim=(2, 3)))


def mobilenet_v2_small(*, num_classes: int, image_size: int, channels: int) -> MobileNetV2:
    """MobileNetV2 with half the width, expansion 6 and half of the usual total stride (16).

    Source:
        Sandler et al., CVPR 2018, arXiv:1801.04381, at width 0.5 with expansion 6, in the small form of EDC,
        arXiv:2404.13733: ReLU instead of ReLU6, and a 1x1 convolution also in the block that expands by 1.
    Deviations:
        stem stride 1 for images below 32 pixels, so that later layers keep more pixels.
    """
    stem_stride = 1 if image_size < 32 else 2
    return MobileNetV2(num_classes=num_classes, channels=channels, stem_stride=stem_stride)
