"""The number format in which a network computes, and its compiler. Everything around it stays in float32."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

HALF_TYPES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class NetworkNumerics:
    """How the forwards of a network, and so their backwards, are computed.

    Weights, buffers, BatchNorm's sums, losses and gradients of weights are always float32; `dtype` is what a
    layer reads and writes inside the network.
    """

    dtype: torch.dtype = torch.float32  # of convolutions, matrix products and what lies between them
    memory_format: torch.memory_format | None = None  # of images; None leaves them as they come
    # Makes faster code of a module with the same results up to rounding.
    compiler: Callable[[nn.Module], Callable[..., Any]] | None = None
    copies_outputs: bool = False  # because a later call overwrites outputs, as in captured graphs

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """The context of a forward."""
        return nullcontext() if self.dtype == torch.float32 else torch.autocast(device.type, self.dtype)

    def compiled(self, network: nn.Module) -> Callable[..., Any]:
        """The network, or what the compiler makes of it."""
        return network if self.compiler is None else self.compiler(network)

    def forward(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """From images [B, C, H, W] float32 to logits [B, K] float32."""
        computed = self.compiled(network)

        def forward(images_BCHW: Tensor) -> Tensor:
            if self.memory_format is not None:
                images_BCHW = images_BCHW.contiguous(memory_format=self.memory_format)
            with self.autocast(images_BCHW.device):
                logits_BK = computed(images_BCHW)
            return self.own(logits_BK)

        return forward

    def own(self, output: Tensor) -> Tensor:
        """A forward's output in float32 (float64 stays) that the caller may keep."""
        if output.dtype in HALF_TYPES:
            return output.float()
        return output.clone() if self.copies_outputs else output


FLOAT32 = NetworkNumerics()


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """The context for code inside a forward that is not part of the network."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
