"""RandAugment as data: operations and magnitudes are drawn on the CPU and applied to uint8 images anywhere.

B images, N operations one after another, C channels, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edc_ray.core.seeding import Draws, prefetch

NUM_OPERATIONS = 2
MAGNITUDE = 9 / 30
"""Share of the largest magnitude: step 9 of 30."""


@dataclass(frozen=True)
class RandAugmentParams:
    """operation: int64 [B, N], indices of OPERATIONS. magnitude: float64 [B, N], signed, in its own unit."""

    operation: np.ndarray
    magnitude: np.ndarray

    def __len__(self) -> int:
        return len(self.operation)

    def __getitem__(self, chosen: np.ndarray) -> RandAugmentParams:
        """The parameters of some images."""
        return RandAugmentParams(self.operation[chosen], self.magnitude[chosen])


@dataclass(frozen=True)
class Operation:
    """One kind of change.

    name: as torchvision calls it.
    strength: the magnitude for a share of the largest one and the image's (height, width).
    signed: half of the draws go the other way.
    apply: uint8 [B, C, H, W] and a magnitude to the same.
    """

    name: str
    strength: Callable[[float, tuple[int, int]], float]
    signed: bool
    apply: Callable[[Tensor, float], Tensor]


def sample_rand_augment(
    streams: Sequence[Draws], image_size: tuple[int, int], num_operations: int = NUM_OPERATIONS
) -> RandAugmentParams:
    """Draw the operations of each image from its own stream: an operation, then its sign, two words each.

    Args:
        streams: one for each image.
        image_size: (height, width), for shifts are shares of it.
        num_operations: N.

    Source:
        RandAugment, Cubuk et al., 2020, with torchvision's operations and ranges; N = 2 and magnitude 9 are
        its defaults, which EDC's online labelling uses.
    """
    prefetch(streams, 2 * num_operations)
    operation = np.zeros((len(streams), num_operations), dtype=np.int64)
    magnitude = np.zeros((len(streams), num_operations))
    for image, stream in enumerate(streams):
        for place in range(num_operations):
            chosen, negative = int(stream.integers(len(OPERATIONS))), bool(stream.uniform() < 0.5)
            kind = OPERATIONS[chosen]
            strength = kind.strength(MAGNITUDE, image_size)
            operation[image, place] = chosen
            magnitude[image, place] = -strength if kind.signed and negative else strength
    return RandAugmentParams(operation, magnitude)


def apply_rand_augment(images_BCHW: Tensor, params: RandAugmentParams) -> Tensor:
    """Change each image by its own operations, in their order.

    Args:
        images_BCHW: uint8 of 1 or 3 channels, any device.
        params: one row for each image.

    Returns:
        uint8 [B, C, H, W]. On a CPU a row does not depend on the other rows (sides up to 256 pixels; the mean
        grey of a larger image may round otherwise).

    Raises:
        ValueError: other images than uint8, or the number of parameters is not the number of images.

    Deviations:
        The official code changes Pillow images before it makes tensors of them; these are torchvision's
        operations on tensors, whose rotations and shears round pixel positions otherwise.
    """
    if images_BCHW.dtype != torch.uint8 or len(images_BCHW) != len(params):
        raise ValueError(
            f"{len(params)} parameters need as many uint8 images, "
            f"got {len(images_BCHW)} of {images_BCHW.dtype}"
        )
    changed = images_BCHW.clone()
    for place in range(params.operation.shape[1]):
        pairs = np.stack([params.operation[:, place].astype(np.float64), params.magnitude[:, place]], axis=1)
        # Images that are changed alike are changed together.
        for chosen, magnitude in np.unique(pairs, axis=0).tolist():
            alike = (pairs == (chosen, magnitude)).all(1)
            rows = torch.from_numpy(np.flatnonzero(alike)).to(changed.device)
            changed[rows] = OPERATIONS[int(chosen)].apply(changed[rows], magnitude)
    return changed


def _shear(images: Tensor, x: float, y: float) -> Tensor:
    shear = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    return _torchvision().affine(images, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, center=[0, 0])


def _shift(images: Tensor, x: int, y: int) -> Tensor:
    return _torchvision().affine(images, angle=0.0, translate=[x, y], scale=1.0, shear=[0.0, 0.0])


def _torchvision() -> Any:
    # Slow to import, and few runs need it.
    from torchvision.transforms import functional

    return functional


def _share_of(largest: float) -> Callable[[float, tuple[int, int]], float]:
    return lambda share, size: largest * share


_NONE = _share_of(0.0)
_LARGEST_SHIFT = 150 / 331  # of a side

OPERATIONS: tuple[Operation, ...] = (
    Operation("Identity", _NONE, False, lambda images, m: images),
    Operation("ShearX", _share_of(0.3), True, lambda images, m: _shear(images, m, 0.0)),
    Operation("ShearY", _share_of(0.3), True, lambda images, m: _shear(images, 0.0, m)),
    Operation(
        "TranslateX",
        lambda share, size: _LARGEST_SHIFT * size[1] * share,
        True,
        lambda images, m: _shift(images, int(m), 0),
    ),
    Operation(
        "TranslateY",
        lambda share, size: _LARGEST_SHIFT * size[0] * share,
        True,
        lambda images, m: _shift(images, 0, int(m)),
    ),
    Operation("Rotate", _share_of(30.0), True, lambda images, m: _torchvision().rotate(images, m)),
    Operation(
        "Brightness",
        _share_of(0.9),
        True,
        lambda images, m: _torchvision().adjust_brightness(images, 1.0 + m),
    ),
    Operation(
        "Color", _share_of(0.9), True, lambda images, m: _torchvision().adjust_saturation(images, 1.0 + m)
    ),
    Operation(
        "Contrast", _share_of(0.9), True, lambda images, m: _torchvision().adjust_contrast(images, 1.0 + m)
    ),
    Operation(
        "Sharpness", _share_of(0.9), True, lambda images, m: _torchvision().adjust_sharpness(images, 1.0 + m)
    ),
    # Bits that are kept: 8 to 4.
    Operation(
        "Posterize",
        lambda share, size: 8.0 - round(4 * share),
        False,
        lambda images, m: _torchvision().posterize(images, int(m)),
    ),
    Operation(
        "Solarize",
        lambda share, size: 255.0 * (1 - share),
        False,
        lambda images, m: _torchvision().solarize(images, m),
    ),
    Operation("AutoContrast", _NONE, False, lambda images, m: _torchvision().autocontrast(images)),
    Operation("Equalize", _NONE, False, lambda images, m: _torchvision().equalize(images)),
)
