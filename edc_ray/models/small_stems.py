"""torchvision's networks with a stem that keeps the resolution of small images.

Layers keep torchvision's names. All average at the end, so images may have any side.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torchvision import models
from torchvision.models import ResNet, ShuffleNetV2


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
