"""Statistics of real images the straightforward way: what the fast pass is measured against.

The published procedure step by step: one pass over the images for each observer, each image opened by
itself; for each layer the quantities of the batch, then in a loop those of each image, added to its
class. Proved on the goldens by tests/goldens/test_reference_stages.py; no program uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from .layer_matching import Quantities, batch_norm_quantities, convolution_quantities


def load_image(path: Path, size: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """One picture with its shorter side resized to `size` and its centre cut out, normalised: [3, S, S]."""
    with Image.open(path) as file:
        picture = file.convert("RGB")
    scale = size / min(picture.size)
    width, height = (max(size, round(side * scale)) for side in picture.size)
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    left, top = (width - size) // 2, (height - size) // 2
    square = np.array(picture.crop((left, top, left + size, top + size)))
    pixels = torch.from_numpy(square).permute(2, 0, 1).float() / 255
    return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


class LayerSums:
    """Adds up the statistics of one layer's input in every forward, given the labels of the batch.

    Args:
        module: a BatchNorm2d or a Conv2d.
        patch_side: for a convolution.
        num_images: of the whole pass.
    """

    def __init__(self, module: nn.Module, patch_side: int, num_images: int) -> None:
        self._patch_side = patch_side if isinstance(module, nn.Conv2d) else None
        self._num_images = num_images
        self.labels: Tensor = torch.empty(0, dtype=torch.int64)
        self.whole: Quantities = []
        self._classes: dict[int, Quantities] = {}
        self._counts: dict[int, int] = {}
        self._handle = module.register_forward_hook(self._look)

    def close(self) -> None:
        self._handle.remove()

    def class_quantities(self, label: int) -> Quantities:
        """Means over the images of a class."""
        return [each / self._counts[label] for each in self._classes[label]]

    def _quantities(self, x_BCHW: Tensor) -> Quantities:
        if self._patch_side is None:
            return batch_norm_quantities(x_BCHW)
        return convolution_quantities(x_BCHW, self._patch_side)

    def _look(self, module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        x = arguments[0]
        if self._patch_side is not None:  # a BatchNorm has its own running estimates
            share = len(x) / self._num_images
            found = [share * each for each in self._quantities(x)]
            self.whole = _added(self.whole, found)
        for image, label in zip(x, self.labels.tolist(), strict=True):
            self._classes[label] = _added(self._classes.get(label, []), self._quantities(image.unsqueeze(0)))
            self._counts[label] = self._counts.get(label, 0) + 1


@torch.no_grad()
def pass_of_observer(
    network: nn.Module,
    paths: Sequence[Path],
    labels: Sequence[int],
    *,
    batch_size: int,
    patch_side: int,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> dict[str, LayerSums]:
    """One pass over all images; the sums of every layer under its module path."""
    device = next(network.parameters()).device
    sums = {
        name: LayerSums(module, patch_side, len(paths))
        for name, module in network.named_modules()
        if isinstance(module, (nn.BatchNorm2d, nn.Conv2d))
    }
    for first in range(0, len(paths), batch_size):
        batch = range(first, min(first + batch_size, len(paths)))
        for layer in sums.values():
            layer.labels = torch.tensor([labels[index] for index in batch])
        network(torch.stack([load_image(paths[index], image_size, mean, std) for index in batch]).to(device))
    for layer in sums.values():
        layer.close()
    return sums


def _added(before: Quantities, more: Quantities) -> Quantities:
    return [old + new for old, new in zip(before, more, strict=True)] if before else list(more)
