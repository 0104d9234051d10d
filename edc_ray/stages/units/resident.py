"""Real images that lie on the device, for all that reads them there."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from edc_ray.data.real.images import DenseImages, ImageSet

_SHARE = 4
"""A set may take one part in so many of the memory that is free."""
_COPIED_AT_ONCE = 1 << 26  # bytes


def free_bytes(device: torch.device) -> int:
    """Free memory of a CUDA device. Elsewhere 0: on a CPU the images lie where they are wanted."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0


class ResidentImages:
    """Copies of decoded sets on the device. A set is copied when it is first read, if it fits.

    Args:
        free: gives the free memory of a device in bytes. A set that takes up to a quarter of it is copied.
    """

    def __init__(self, free: Callable[[torch.device], int] = free_bytes) -> None:
        self._free = free
        self._copies: dict[tuple[int, torch.device], tuple[ImageSet, Tensor | None]] = {}
        self._lock = Lock()

    def pixels(self, images: ImageSet, indices: np.ndarray, device: torch.device) -> Tensor:
        """The images at some indices, uint8 [n, C, S, S]: chosen out of the copy there, or fetched."""
        copy = self._copy_of(images, device)
        if copy is None:
            return images.fetch_to(device, indices)
        return copy[torch.from_numpy(indices).to(device)]

    def _copy_of(self, images: ImageSet, device: torch.device) -> Tensor | None:
        key = id(images), device
        with self._lock:  # several threads may train at once
            if key not in self._copies:
                fits = isinstance(images, DenseImages) and _SHARE * images.images.nbytes <= self._free(device)
                # The set is kept too, so that its id stays its own.
                self._copies[key] = images, _copied(images, device) if fits else None
            return self._copies[key][1]


def _copied(images: ImageSet, device: torch.device) -> Tensor:
    shape = len(images), images.channels, images.image_size, images.image_size
    copy = torch.empty(shape, dtype=torch.uint8, device=device)
    step = max(1, _COPIED_AT_ONCE // copy[0].numel())
    for first in range(0, len(images), step):
        indices = np.arange(first, min(first + step, len(images)))
        copy[first : first + len(indices)] = images.fetch_to(device, indices)
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()  # streams of other threads will read it
    return copy
