"""ShuffleNetV2 x0.5 for small images."""

from __future__ import annotations

from torch import nn
from torchvision.models import ShuffleNetV2


def shufflenet_v2_x0_5_small(*, num_classes: int, image_size: int, channels: int) -> ShuffleNetV2:
    """ShuffleNetV2 x0.5 with a 1x1 stem of stride 1 and no max-pool.

    Stages of one down-sampling and 3, 7, 3 further blocks; widths 48, 96, 192 and 1024 before the classifier.

    Args:
        num_classes: outputs.
        image_size: side of the images. Any side will do, since the network averages at the end.
        channels: channels of the input.

    Source:
        Ma et al., ECCV 2018, arXiv:1807.11164, in the small form used by EDC, arXiv:2404.13733.
    Deviations:
        none; layers keep torchvision's names.
    """
    network = ShuffleNetV2([4, 8, 4], [24, 48, 96, 192, 1024], num_classes=num_classes)
    network.conv1[0] = nn.Conv2d(channels, 24, kernel_size=1, bias=False)
    # torchvision annotates the attribute as a MaxPool2d; setattr keeps the type checker out of it.
    setattr(network, "maxpool", nn.Identity())  # noqa: B010
    return network
