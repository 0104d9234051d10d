"""ResNets for small images: torchvision's, with a stem that keeps the resolution."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torchvision import models
from torchvision.models import ResNet


def resnet18_small(*, num_classes: int, image_size: int, channels: int) -> ResNet:
    """ResNet-18 with a 3x3 stem of stride 1 and no max-pool.

    Args:
        num_classes: outputs.
        image_size: side of the images. Any side will do, since the network averages at the end.
        channels: channels of the input.

    Source:
        EDC, Shao et al., NeurIPS 2024, arXiv:2404.13733 (ResNet18 of the CIFAR and Tiny-ImageNet settings).
    Deviations:
        none; layers keep torchvision's names.
    """
    return _with_small_stem(models.resnet18, num_classes, channels)


def resnet50_small(*, num_classes: int, image_size: int, channels: int) -> ResNet:
    """ResNet-50 with the stem of `resnet18_small`."""
    return _with_small_stem(models.resnet50, num_classes, channels)


def resnet101_small(*, num_classes: int, image_size: int, channels: int) -> ResNet:
    """ResNet-101 with the stem of `resnet18_small`."""
    return _with_small_stem(models.resnet101, num_classes, channels)


def _with_small_stem(build: Callable[..., ResNet], num_classes: int, channels: int) -> ResNet:
    network = build(weights=None, num_classes=num_classes)
    stem = nn.Conv2d(channels, 64, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    network.conv1 = stem
    # torchvision annotates the attribute as a MaxPool2d; setattr keeps the type checker out of it.
    setattr(network, "maxpool", nn.Identity())  # noqa: B010
    return network
