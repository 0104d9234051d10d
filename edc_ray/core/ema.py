"""Exponential moving average of a network's parameters, and evaluating with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EmaParameters:
    """Averaged copies of a module's parameters, started at their present values.

    Args:
        module: the live network; its parameters are read at each `update`.
        decay: weight of history, in [0, 1].
        buffers: average floating-point buffers too. By default evaluation uses the averaged parameters with
            the live batch-norm statistics, as the official code does.

    Raises:
        ValueError: decay is outside [0, 1].
    """

    def __init__(self, module: nn.Module, decay: float, *, buffers: bool = False) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be in [0, 1], got {decay}")
        self.decay = decay
        self.buffers = buffers
        self._module = module
        self._average = {name: tensor.detach().clone() for name, tensor in self._live(module).items()}

    @torch.no_grad()
    def update(self) -> None:
        """average <- decay * average + (1 - decay) * live. Call after each optimiser step."""
        live = self._live(self._module)
        for name, average in self._average.items():
            average.copy_(self.decay * average + (1 - self.decay) * live[name])

    @contextmanager
    def swapped(self, module: nn.Module | None = None) -> Iterator[None]:
        """The averages stand in the module (default: the live one) and its own values come back, also after
        an error.

        `update` inside would average the averages.
        """
        module = self._module if module is None else module
        self._exchange(module)
        try:
            yield
        finally:
            self._exchange(module)

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
        for name, average in self._average.items():
            average.copy_(state[name])

    @torch.no_grad()
    def _exchange(self, module: nn.Module) -> None:
        live = self._live(module)
        for name, average in self._average.items():
            kept = live[name].clone()
            live[name].copy_(average)
            average.copy_(kept)

    def _live(self, module: nn.Module) -> dict[str, Tensor]:
        live: dict[str, Tensor] = dict(module.named_parameters())
        if self.buffers:
            live |= {name: buffer for name, buffer in module.named_buffers() if buffer.is_floating_point()}
        return live
