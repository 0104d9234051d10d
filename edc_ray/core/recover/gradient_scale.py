"""The gradient of pixels through a network of float16, whose smallest number is 6e-8.

The loss is scaled up for the backward pass, and the gradient down again. The scale is halved when a gradient
overflows, and doubled after a number of iterations without an overflow. It stays on the device, so that
nothing waits for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

FIRST_SCALE = 2.0**16
_LARGEST_SCALE = 2.0**24
_CALM = 200  # iterations without an overflow before the scale is doubled


def first_scale(images: Tensor) -> Tensor:
    """[2]: the scale, and iterations since it changed."""
    return torch.stack([images.new_full((), FIRST_SCALE), images.new_zeros(())])


def scaled_gradient(loss: Tensor, images: Tensor, scale_2: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of a loss by its leaf `images`, and the next scale (`first_scale` gives the first).

    A gradient that overflowed counts as 0: in that iteration only momentum moves the images. At the scale 1
    scaling cannot have caused an overflow, so a gradient that is not finite stays as it is.
    """
    scale, calm = scale_2
    (scaled,) = torch.autograd.grad(loss * scale, images)
    # A sum is finite if all its summands are, except for an overflow, which is as bad.
    overflowed = ~scaled.sum().isfinite()
    gradient = torch.where(overflowed & (scale > 1), torch.zeros_like(scaled), scaled / scale)
    grows = ~overflowed & (calm + 1 >= _CALM)
    larger = torch.where(grows, (scale * 2).clamp(max=_LARGEST_SCALE), scale)
    following = torch.where(overflowed, (scale / 2).clamp(min=1), larger)
    waited = torch.where(overflowed | grows, torch.zeros_like(calm), calm + 1)
    return gradient, torch.stack([following, waited])
