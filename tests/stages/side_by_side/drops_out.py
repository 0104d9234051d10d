"""A small network that draws while it trains."""

from __future__ import annotations

import torch
from torch import nn


class DropsOut(nn.Module):
    """Draws from torch's random state while it trains."""

    def __init__(self, num_classes: int, image_size: int, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5)
        )
        self.head = nn.Linear(4 * (image_size - 2) ** 2, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images).flatten(1))
