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

    Args:
        module: the live network; each `update` reads its parameters.
        decay: weight of history, in [0, 1].
        buffers: which floating-point buffers (batch-norm statistics) go with the averaged parameters: the
            live ones, as in the official evaluation; their averages; or the initial ones, which nothing
            updates, as in the copy that the official flatness loss uses.

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
        averaged = _parameters(module) | (_buffers(module) if buffers == "averaged" else {})
        self._average = {name: tensor.detach().clone() for name, tensor in averaged.items()}
        self._initial = {name: tensor.detach().clone() for name, tensor in _buffers(module).items()}

    @torch.no_grad()
    def update(self) -> None:
        """average <- decay * average + (1 - decay) * live. Call after each optimiser step."""
        live = _parameters(self._module) | _buffers(self._module)
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            list(self._average.values()), [live[name] for name in self._average], 1 - self.decay
        )

    @contextmanager
    def swapped(self, module: nn.Module | None = None, *, buffers: Buffers | None = None) -> Iterator[None]:
        """Within the context a module holds the averages; then its own values come back, also after an error.

        Do not call `update` inside: it would average the averages.

        Args:
            module: of the same shapes; by default the live one.
            buffers: instead of those of the constructor.

        Raises:
            ValueError: `buffers` asks for averages that were not kept from the start.
        """
        module, buffers = self._module if module is None else module, buffers or self.buffers
        if buffers == "averaged" and self.buffers != "averaged":
            raise ValueError("buffers are not averaged: say so in the constructor")
        shown = {name: tensor for name, tensor in self._average.items() if name not in self._initial}
        if buffers == "averaged":
            shown = self._average
        elif buffers == "initial":
            shown |= self._initial
        live = _parameters(module) | _buffers(module)
        kept = {name: live[name].detach().clone() for name in shown}
        _fill(live, shown)
        try:
            yield
        finally:
            _fill(live, kept)

    def state_dict(self) -> dict[str, Tensor]:
        """Name -> average, the tensors themselves."""
        return dict(self._average)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from averages that `state_dict` gave.

        Raises:
            ValueError: other names than the module's.
        """
        if state.keys() != self._average.keys():
            raise ValueError(
                f"averages of other parameters: {sorted(state.keys() ^ self._average.keys())[:5]}"
            )
        _fill(self._average, state)


def _parameters(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters())


def _buffers(module: nn.Module) -> dict[str, Tensor]:
    return {name: buffer for name, buffer in module.named_buffers() if buffer.is_floating_point()}


@torch.no_grad()
def _fill(tensors: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        tensors[name].copy_(value)
