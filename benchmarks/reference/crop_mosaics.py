"""Mosaics of crops the straightforward way: what the batched scoring is measured against.

It works as the official program does: the images of a class are opened and cut one by one, and one forward
takes one crop of each image: first all first crops, then all second ones, and so on. It is proved on the
goldens by tests/goldens/test_reference_stages.py; no program uses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Ranked = list[tuple[float, Tensor]]


@torch.no_grad()
def losses_of_crops(crops_NCHW: Tensor, label: int, observers: Sequence[nn.Module], size: int) -> list[float]:
    """Cross entropy of the observers' mean logits of some crops, zeros around them up to `size`."""
    padded = torch.zeros(len(crops_NCHW), crops_NCHW.shape[1], size, size)
    height, width = crops_NCHW.shape[-2:]
    top, left = (size - height) // 2, (size - width) // 2
    padded[..., top : top + height, left : left + width] = crops_NCHW
    padded = padded.to(next(observers[0].parameters()).device)
    logits = torch.stack([observer(padded) for observer in observers]).mean(0).cpu()
    return [float(F.cross_entropy(row.unsqueeze(0), torch.tensor([label]))) for row in logits]


def best_crops(
    crops_of_each: Iterable[Tensor], label: int, observers: Sequence[nn.Module], size: int
) -> list[Tensor]:
    """The best crop of each image, the best of them first."""
    crops_MNCHW = torch.stack(list(crops_of_each))
    losses = [
        losses_of_crops(crops_MNCHW[:, place], label, observers, size)
        for place in range(crops_MNCHW.shape[1])
    ]
    kept: Ranked = []
    for image, crops in enumerate(crops_MNCHW):
        best = min(range(len(crops)), key=lambda place: losses[place][image])
        kept.append((losses[best][image], crops[best]))
    return [crop for _, crop in sorted(kept, key=lambda pair: pair[0])]


def mosaics_of(crops: Sequence[Tensor], images_per_class: int, size: int, factor: int) -> list[Tensor]:
    """Crop by crop into its cell: the j-th cell of image i takes crop j * images_per_class + i (RDED)."""
    sides = [size // factor + (cell < size % factor) for cell in range(factor)]
    made = []
    for image in range(images_per_class):
        whole = torch.zeros(crops[0].shape[0], size, size)
        for row in range(factor):
            for column in range(factor):
                crop = crops[(row * factor + column) * images_per_class + image]
                cell = F.interpolate(crop.unsqueeze(0), (sides[row], sides[column]), mode="nearest")
                top, left = sum(sides[:row]), sum(sides[:column])
                whole[:, top : top + sides[row], left : left + sides[column]] = cell[0]
        made.append(whole)
    return made
