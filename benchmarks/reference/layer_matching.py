"""Statistic matching the straightforward way: what the fast one is measured against.

The published formulas one by one: the activations are stretched in full, every moment is a separate pass over
them, and autograd keeps what it needs of each. Proved on the goldens by
tests/goldens/test_reference.py; no program uses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Quantities = list[Tensor]


def batch_norm_quantities(x_BCHW: Tensor) -> Quantities:
    """Mean and biased variance of every channel, over images and pixels."""
    mean = x_BCHW.mean([0, 2, 3])
    variance = x_BCHW.permute(1, 0, 2, 3).contiguous().view(x_BCHW.shape[1], -1).var(1, unbiased=False)
    return [mean, variance]


def convolution_quantities(x_BCHW: Tensor, patch_side: int) -> Quantities:
    """Those of the channels, and mean and biased variance of every square tile of the stretched map."""
    images, channels, height, width = x_BCHW.shape
    rows, columns = -(-height // patch_side), -(-width // patch_side)
    size = (rows * patch_side, columns * patch_side)
    stretched = F.interpolate(x_BCHW, size=size, mode="bilinear", align_corners=False)
    tiles = stretched.view(images, channels, rows, patch_side, columns, patch_side)
    tiles = tiles.permute(2, 4, 0, 1, 3, 5).contiguous().view(rows * columns, -1)
    return [*batch_norm_quantities(x_BCHW), tiles.mean(1), tiles.var(1, unbiased=False)]


class LayerHook:
    """Matches the input of one layer in every forward; `loss` is that of the last.

    Args:
        module: a BatchNorm2d or a Conv2d.
        patch_side: for a convolution.
        momentum: weight of history in the running estimate, which starts at 0.
        targets: (weight, quantities) of each term.
    """

    def __init__(
        self, module: nn.Module, patch_side: int, momentum: float, targets: Sequence[tuple[float, Quantities]]
    ) -> None:
        self._patch_side = patch_side if isinstance(module, nn.Conv2d) else None
        self._momentum = momentum
        self.targets = targets
        self.estimate: Quantities | None = None
        self.loss = torch.zeros(())
        self._handle = module.register_forward_hook(self._look)

    def close(self) -> None:
        self._handle.remove()

    def _look(self, module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        x = arguments[0]
        if self._patch_side is None:
            quantities = batch_norm_quantities(x)
        else:
            quantities = convolution_quantities(x, self._patch_side)
        before = self.estimate or [torch.zeros_like(each) for each in quantities]
        self.estimate = [
            self._momentum * old + (1 - self._momentum) * new.detach()
            for old, new in zip(before, quantities, strict=True)
        ]
        matched = [state + new - new.detach() for state, new in zip(self.estimate, quantities, strict=True)]
        self.loss = torch.stack(
            [
                weight * torch.norm(target - value, 2)
                for weight, targets in self.targets
                for target, value in zip(targets, matched, strict=True)
            ]
        ).sum()


def hooked(
    network: nn.Module,
    patch_side: int,
    momentum: float,
    targets: Mapping[str, Sequence[tuple[float, Quantities]]],
) -> list[LayerHook]:
    """A hook on each BatchNorm2d and Conv2d that has targets, in module order."""
    return [
        LayerHook(module, patch_side, momentum, targets[name])
        for name, module in network.named_modules()
        if isinstance(module, (nn.BatchNorm2d, nn.Conv2d)) and name in targets
    ]
