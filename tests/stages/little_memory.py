"""Networks that find too little memory for more than some images at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB"


class Hungry(nn.Module):
    """Doubles images, but at most `room` at once. `sizes` are those of its calls."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room, self.sizes = room, list[int]()

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        if len(images) > self.room:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)
        return images * 2


class LittleMemory:
    """While it is entered, linear layers raise for more than `room` images; `backward`: for their gradient.

    `sizes` are those of all forwards that came so far, `failures` how many raised.
    """

    def __init__(self, room: int, *, backward: bool = False) -> None:
        self.room, self._backward = room, backward
        self.sizes, self.failures = list[int](), 0

    def __enter__(self) -> LittleMemory:
        self._real = nn.Linear.forward
        little_memory, real = self, self._real

        def forward(self: nn.Linear, input: Tensor) -> Tensor:
            little_memory.sizes.append(len(input))
            if not little_memory._backward:
                little_memory._check(input)
            result = real(self, input)
            if little_memory._backward and result.requires_grad:
                result.register_hook(little_memory._check)
            return result

        nn.Linear.forward = forward
        return self

    def __exit__(self, *_: object) -> None:
        nn.Linear.forward = self._real

    def _check(self, tensor: Tensor) -> None:
        if len(tensor) > self.room:
            self.failures += 1
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)
