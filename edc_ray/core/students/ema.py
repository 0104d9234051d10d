"""Exponential moving average of a network's parameters, and evaluating with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

Buffers = Literal["live", "averaged", "initial"]


class EmaParameters:
    """Averaged copies of a module's parameters, which start at their present values.

    `decay` is the weight of history. `buffers` says which floating-point buffers (batch-norm statistics) go
    with the averaged parameters: the live ones, as in the official evaluation; their averages; or the initial
    ones, which nothing updates, as in the copy that the official flatness loss uses.

    Raises:
        ValueError: decay is outside [0, 1].
    Deviations:
        the official code averages no buffers. Its accuracies, and so the paper's, are made with "live", the
        default of every method.
    """

    def __init__(self, module: nn.Module, decay: float, *, buffers: Buffers = "live") -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be in [0, 1], got {decay}")
        self.decay = decay
        self.buffers: Buffers = buffers
        self._module = module
        averaged = dict(module.named_parameters()) | (_buffers(module) if buffers == "averaged" else {})
        self.average = {name: tensor.detach().clone() for name, tensor in averaged.items()}
        self._initial = {name: tensor.detach().clone() for name, tensor in _buffers(module).items()}

    @torch.no_grad()
    def update(self) -> None:
        """average <- decay * average + (1 - decay) * live. Call after each optimiser step."""
        live = dict(self._module.named_parameters()) | _buffers(self._module)
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            list(self.average.values()), [live[name] for name in self.average], 1 - self.decay
        )

    @contextmanager
    def swapped(self, *, buffers: Buffers | None = None) -> Iterator[None]:
        """Within the context the module holds the averages. Its own values come back, also after an error.

        `buffers` replaces those of the constructor. Call no `update` inside: it would average the averages.

        Raises:
            ValueError: `buffers` asks for averages that were not kept from the start.
        """
        buffers = buffers or self.buffers
        if buffers == "averaged" and self.buffers != "averaged":
            raise ValueError("buffers are not averaged: say so in the constructor")
        shown = {name: tensor for name, tensor in self.average.items() if name not in self._initial}
        if buffers == "averaged":
            shown = self.average
        elif buffers == "initial":
            shown |= self._initial
        live = dict(self._module.named_parameters()) | _buffers(self._module)
        kept = {name: live[name].detach().clone() for name in shown}
        _fill(live, shown)
        try:
            yield
        finally:
            _fill(live, kept)


def _buffers(module: nn.Module) -> dict[str, Tensor]:
    return {name: buffer for name, buffer in module.named_buffers() if buffer.is_floating_point()}


@torch.no_grad()
def _fill(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        tensors[name].copy_(value)
