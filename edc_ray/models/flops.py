"""The arithmetic of a network, counted before any work."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from edc_ray.models.registry import check_network


def forward_flops(name: str, *, num_classes: int, image_size: int, channels: int) -> int:
    """Floating-point operations of one image's forward pass in eval mode; a multiply-add counts as two.

    Raises a ConfigError if the network does not exist or cannot take the images.
    """
    network = check_network(name, num_classes=num_classes, image_size=image_size, channels=channels)
    device = next((one.device for one in network.parameters()), torch.device("cpu"))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros((1, channels, image_size, image_size), device=device))
    return counter.get_total_flops()
