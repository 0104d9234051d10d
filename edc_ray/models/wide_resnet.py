"""Wide residual networks for small images (pre-activation blocks)."""

from __future__ import annotations

from torch import Tensor, nn


class PreActivationBlock(nn.Module):
    """Norm, ReLU, 3x3 convolution, twice; a 1x1 convolution on the shortcut if the width changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut: nn.Module | None = None
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output. A projecting shortcut takes the activated input, an identity the raw one."""
        activated = self.bn1(x).relu()
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        return shortcut + self.conv2(self.bn2(self.conv1(activated)).relu())


class WideResNet(nn.Module):
    """Wide ResNet of depth 6n + 4 and a widening factor.

    Args:
        depth: 6n + 4, with n blocks in each of three groups.
        widening: factor on the widths 16, 32, 64.

    Raises:
        ValueError: depth is not 6n + 4.

    Source:
        Zagoruyko and Komodakis, BMVC 2016, arXiv:1605.07146.
    Deviations:
        no dropout.
    """

    def __init__(self, *, num_classes: int, channels: int, depth: int, widening: int) -> None:
        super().__init__()
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            raise ValueError(f"depth must be 6n + 4, not {depth}")
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        width = 16
        groups: list[nn.Module] = []
        for group, stride in enumerate((1, 2, 2)):
            out_width = 16 * widening << group
            layers = [PreActivationBlock(width, out_width, stride)]
            layers += [PreActivationBlock(out_width, out_width, 1) for _ in range(blocks - 1)]
            groups.append(nn.Sequential(*layers))
            width = out_width
        self.layer1, self.layer2, self.layer3 = groups
        self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Logits [B, K]."""
        x = self.layer3(self.layer2(self.layer1(self.conv1(images_BCHW))))
        return self.fc(self.bn(x).relu().mean(dim=(2, 3)))


def wrn_16_2(*, num_classes: int, image_size: int, channels: int) -> WideResNet:
    """Wide ResNet of depth 16 and widening factor 2. It averages at the end, so images may have any side."""
    return WideResNet(num_classes=num_classes, channels=channels, depth=16, widening=2)
