"""RandAugment as data: operations and magnitudes are drawn on the CPU and applied to uint8 images anywhere.

B images, N operations one after another, C channels, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from edc_ray.core.seeding import Draws, uniform_rows

NUM_OPERATIONS = 2
MAGNITUDE = 9 / 30  # share of the largest: step 9 of 30


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
    """One kind of change, by torchvision's name."""

    name: str
    # From a share of the largest magnitude and the image's (height, width) to the magnitude.
    strength: Callable[[float, tuple[int, int]], float]
    signed: bool  # half of the draws have the opposite sign
    # From uint8 [B, C, H, W] and magnitudes float64 [B] on the CPU to uint8 [B, C, H, W].
    apply: Callable[[Tensor, Tensor], Tensor]


def sample_rand_augment(
    streams: Sequence[Draws], image_size: tuple[int, int], num_operations: int = NUM_OPERATIONS
) -> RandAugmentParams:
    """Draw the operations of each image from its own stream: an operation, then its sign, two words each.

    image_size, (height, width), gives the unit of shifts.

    Source:
        RandAugment, Cubuk et al., 2020, with torchvision's operations and ranges; N = 2 and magnitude 9 are
        its defaults, which EDC's online labelling uses.
    """
    uniforms_BN2 = uniform_rows(streams, 2 * num_operations).reshape(-1, num_operations, 2)
    operation = np.floor(uniforms_BN2[..., 0] * len(OPERATIONS)).astype(np.int64)
    strengths = np.array([kind.strength(MAGNITUDE, image_size) for kind in OPERATIONS])
    turned = np.array([kind.signed for kind in OPERATIONS])[operation] & (uniforms_BN2[..., 1] < 0.5)
    return RandAugmentParams(operation, np.where(turned, -strengths[operation], strengths[operation]))


def apply_rand_augment(images_BCHW: Tensor, params: RandAugmentParams) -> Tensor:
    """Change each uint8 image of 1 or 3 channels by its own operations, in order.

    On a CPU a row does not depend on the other rows for sides up to 256 pixels. The mean grey of a larger
    image may round differently.

    Raises:
        ValueError: the images are not uint8, or the number of parameters is not the number of images.

    Deviations:
        The official code changes Pillow images before it makes tensors of them. These are torchvision's
        operations on tensors, which round pixel positions of rotations and shears differently.
    """
    if images_BCHW.dtype != torch.uint8 or len(images_BCHW) != len(params):
        raise ValueError(
            f"{len(params)} parameters need as many uint8 images, "
            f"got {len(images_BCHW)} of {images_BCHW.dtype}"
        )
    changed = images_BCHW.clone()
    for place in range(params.operation.shape[1]):
        # Images with the same operation are changed together.
        for chosen in np.unique(params.operation[:, place]):
            alike = np.flatnonzero(params.operation[:, place] == chosen)
            rows, magnitude = torch.from_numpy(alike).to(changed.device), params.magnitude[alike, place]
            changed[rows] = OPERATIONS[chosen].apply(changed[rows], torch.from_numpy(magnitude))
    return changed


def _moving(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """An operation that reads each pixel from another place, or leaves it black."""

    def move(images: Tensor, magnitude: Tensor) -> Tensor:
        count, channels, height, width = images.shape
        # There are two magnitudes at most, however many images.
        different, which = magnitude.unique(return_inverse=True)
        sources = torch.stack([moved_from(name, each, height, width) for each in different.tolist()])
        with_black = F.pad(images.flatten(2), (1, 0))
        index = sources.to(images.device)[which.to(images.device), None].expand(count, channels, -1)
        return with_black.gather(2, index).view_as(images)

    return move


def is_moving(name: str) -> bool:
    """Whether an operation reads each pixel from another place, by `moved_from`."""
    return name == "Rotate" or name.startswith(("Shear", "Translate"))


@lru_cache(maxsize=64)
def moved_from(name: str, magnitude: float, height: int, width: int) -> Tensor:
    """The source pixel of each place, int64 [H * W], counted from 1; 0 is outside.

    torchvision moves an image of the pixels' numbers, which float32 holds exactly.
    """
    functional = _torchvision()
    numbers = torch.arange(1, height * width + 1, dtype=torch.float32).view(1, 1, height, width)
    if name == "Rotate":
        return functional.rotate(numbers, magnitude).long().flatten()
    shear, shift = [0.0, 0.0], [0, 0]
    axis = "XY".index(name[-1])
    if name.startswith("Shear"):
        shear[axis] = math.degrees(math.atan(magnitude))
        moved = functional.affine(numbers, angle=0.0, translate=shift, scale=1.0, shear=shear, center=[0, 0])
    else:
        shift[axis] = int(magnitude)
        moved = functional.affine(numbers, angle=0.0, translate=shift, scale=1.0, shear=shear)
    return moved.long().flatten()


def _blend(images: Tensor, other: Tensor, magnitude: Tensor) -> Tensor:
    """(1 + magnitude) of the images plus the rest of the other, rounded like torchvision's."""
    own = 1.0 + magnitude
    share, rest = (each.to(images.device, torch.float32).view(-1, 1, 1, 1) for each in (own, 1.0 - own))
    return (share * images + rest * other).clamp(0, 255).to(torch.uint8)


def _grey(images: Tensor) -> Tensor:
    return images if images.shape[1] == 1 else _torchvision().rgb_to_grayscale(images)


def _colour(images: Tensor, magnitude: Tensor) -> Tensor:
    return images if images.shape[1] == 1 else _blend(images, _grey(images), magnitude)


def _contrast(images: Tensor, magnitude: Tensor) -> Tensor:
    return _blend(images, _grey(images).float().mean((1, 2, 3), keepdim=True), magnitude)


def _sharpness(images: Tensor, magnitude: Tensor) -> Tensor:
    if min(images.shape[-2:]) <= 2:
        return images
    blurred = _torchvision().adjust_sharpness(images, 0.0)
    return _blend(images, blurred, magnitude)


def _posterize(images: Tensor, magnitude: Tensor) -> Tensor:
    mask = 256 - 2 ** (8 - magnitude.long())
    return images & mask.to(torch.uint8).to(images.device).view(-1, 1, 1, 1)


def _solarize(images: Tensor, magnitude: Tensor) -> Tensor:
    threshold = magnitude.to(images.device, torch.float32).view(-1, 1, 1, 1)
    return torch.where(images >= threshold, 255 - images, images)


def _equalize(images: Tensor) -> Tensor:
    """Spread each channel's grey levels evenly. A channel with nothing to spread does not change."""
    count, channels = images.shape[:2]
    values = images.reshape(count * channels, -1).long()
    offsets = 256 * torch.arange(len(values), device=images.device)[:, None]
    histogram = torch.bincount((values + offsets).flatten(), minlength=256 * len(values)).view(-1, 256)
    last = values.amax(1, keepdim=True)
    step = torch.div(histogram.sum(1, keepdim=True) - histogram.gather(1, last), 255, rounding_mode="floor")
    below = histogram.cumsum(1) - histogram
    spread = torch.div(below + step // 2, step.clamp(min=1), rounding_mode="floor").clamp(0, 255)
    spread[:, 0] = 0
    levels = torch.where(step == 0, torch.arange(256, device=images.device), spread)
    return levels.gather(1, values).to(torch.uint8).view_as(images)


def _torchvision() -> Any:
    # It is slow to import, and few runs need it.
    from torchvision.transforms import functional

    return functional


def _share_of(largest: float) -> Callable[[float, tuple[int, int]], float]:
    return lambda share, size: largest * share


_NONE = _share_of(0.0)
_LARGEST_SHIFT = 150 / 331  # of a side

OPERATIONS: tuple[Operation, ...] = (
    Operation("Identity", _NONE, False, lambda images, m: images),
    Operation("ShearX", _share_of(0.3), True, _moving("ShearX")),
    Operation("ShearY", _share_of(0.3), True, _moving("ShearY")),
    Operation(
        "TranslateX", lambda share, size: _LARGEST_SHIFT * size[1] * share, True, _moving("TranslateX")
    ),
    Operation(
        "TranslateY", lambda share, size: _LARGEST_SHIFT * size[0] * share, True, _moving("TranslateY")
    ),
    Operation("Rotate", _share_of(30.0), True, _moving("Rotate")),
    Operation(
        "Brightness", _share_of(0.9), True, lambda images, m: _blend(images, torch.zeros_like(images), m)
    ),
    Operation("Color", _share_of(0.9), True, _colour),
    Operation("Contrast", _share_of(0.9), True, _contrast),
    Operation("Sharpness", _share_of(0.9), True, _sharpness),
    # Bits that are kept: 8 to 4.
    Operation("Posterize", lambda share, size: 8.0 - round(4 * share), False, _posterize),
    Operation("Solarize", lambda share, size: 255.0 * (1 - share), False, _solarize),
    Operation("AutoContrast", _NONE, False, lambda images, m: _torchvision().autocontrast(images)),
    Operation("Equalize", _NONE, False, lambda images, m: _equalize(images)),
)
