"""Exponential moving average of a network's parameters, and evaluating with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

Buffers = Literal["live", "averaged", "initial"]


class EmaParameters:
    """Averaged copies of a module's parameters, started at their present values.

    Args:
        module: the live network; its parameters are read at each `update`.
        decay: weight of history, in [0, 1].
        buffers: which floating-point buffers (batch-norm statistics) stand beside the averaged parameters:
            the live ones, as where the official code judges; averages of them; or those of the start, which
            nothing updates, as in the copy that the official flatness loss looks at.

    Raises:
        ValueError: decay is outside [0, 1].
    Deviations:
        the official code averages no buffers: "live" is what its accuracies, and so the paper's, are made
        with, and is the default of every method.
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
        """The averages stand in the module (default: the live one) and its own values come back, also after
        an error.

        `update` inside would average the averages.

        Args:
            module: of the same shapes.
            buffers: instead of those of the constructor; averages must be kept from the start.

        Raises:
            ValueError: averaged buffers are asked for and not kept.
        """
        module, buffers = self._module if module is None else module, buffers or self.buffers
        if buffers == "averaged" and self.buffers != "averaged":
            raise ValueError("buffers are not averaged: say so in the constructor")
        shown = {name: tensor for name, tensor in self._average.items() if name not in self._initial}
        if buffers != "live":
            shown |= (
                {name: self._average[name] for name in self._initial}
                if buffers == "averaged"
                else self._initial
            )
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
        """Take up averages saved by `state_dict`.

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
