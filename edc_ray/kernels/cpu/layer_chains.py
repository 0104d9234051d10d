"""Finding layers whose result only one other layer reads.

The structure of a network does not show it: code may run a Sequential in slices, or use a result twice. So
we watch every operation of one forward pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@torch.no_grad()
def sole_readers(
    network: nn.Module, images_BCHW: Tensor, classes: Sequence[type[nn.Module]]
) -> dict[nn.Module, nn.Module]:
    """Layer -> the only layer that reads its result, in a network in eval mode.

    Both run once in a forward pass and are of one of the classes, not of a subclass. A layer is left out if
    other code reads, changes or returns its result or a part of it.

    Args:
        images_BCHW: of the size that the network will get.
    """
    layers = [module for module in network.modules() if type(module) in classes]
    watch = _Watch()
    handles = [layer.register_forward_pre_hook(watch.enter) for layer in layers]
    handles += [layer.register_forward_hook(watch.leave) for layer in layers]
    try:
        with watch:
            given = network(images_BCHW)
    finally:
        for handle in handles:
            handle.remove()
    watch.read(given)
    once = {layer for layer in layers if watch.runs[layer] == 1}
    return {
        layer: reader
        for layer in layers
        if layer in once and len(readers := watch.readers[layer]) == 1
        for reader in readers
        if reader in once
    }


class _Watch(TorchDispatchMode):
    """Notes which layers read the result of each layer. None stands for code outside them."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: Counter[nn.Module] = Counter()
        self.readers: dict[nn.Module, set[nn.Module | None]] = {}
        self._inside: list[nn.Module] = []
        self._owners: dict[int, nn.Module] = {}
        self._kept: list[object] = []  # else other tensors would get their memory

    def enter(self, layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        self.runs[layer] += 1
        self._inside.append(layer)

    def leave(self, layer: nn.Module, arguments: tuple[Any, ...], result: Any) -> None:
        self._inside.pop()
        self.readers[layer] = set()
        # A layer that worked in place has overwritten what it read.
        if place := _memory(result):
            self._owners[place] = layer
        self._kept.append(result)

    def read(self, values: Any) -> None:
        reader = self._inside[-1] if self._inside else None
        for value in tree_leaves(values):
            owner = self._owners.get(_memory(value))
            if owner is not None and owner is not reader:
                self.readers[owner].add(reader)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.read((args, kwargs))
        return func(*args, **(kwargs or {}))


def _memory(value: Any) -> int:
    """Address of a tensor's memory, the same for its views; 0 for anything else."""
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return 0
    return value.untyped_storage().data_ptr()
