"""Relabelling and training as the official programs do it: every picture opened and transformed by itself in
every epoch, one file of labels for each batch, parameters updated and averaged one after another.

It is for measuring only; nothing else uses it. tests/goldens/test_reference_views.py compares its views with
the goldens and with ours. It draws from torch's and numpy's global generators, as the official programs do.
They read files; over another file system each object is fetched with one request when it is needed.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from fsspec.core import url_to_fs
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import RandAugment, RandomResizedCrop
from torchvision.transforms import functional as transforms

Kind = Literal["pil", "tensor"]
"""Whether pictures are cut before they become tensors (CIFAR, Tiny-ImageNet) or after (ImageNet)."""


@dataclass(frozen=True)
class Recipe:
    """kind: see Kind. mean, std: per channel. crop_scale: of the area. rand_augment: before it."""

    kind: Kind
    mean: Sequence[float]
    std: Sequence[float]
    crop_scale: tuple[float, float] = (0.5, 1.0)
    rand_augment: bool = False


def write_pictures(folder: Path, images: np.ndarray, suffix: str) -> list[Path]:
    """One file for each of uint8 images [M, C, H, W]; `suffix` is .png or .jpg."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:06d}{suffix}" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    return paths


def cut(
    picture: Image.Image, box: Sequence[int], flip: bool, recipe: Recipe, side: int | None = None
) -> Tensor:
    """One view, normalised. box: top, left, height, width. side: of the view; None: as the picture is."""
    top, left, height, width = box
    size = [side or picture.height, side or picture.width]
    # torchvision's annotations know tensors alone.
    small: Any = picture if recipe.kind == "pil" else transforms.to_tensor(picture)
    small = transforms.resized_crop(small, top, left, height, width, size, antialias=True)
    small = transforms.hflip(small) if flip else small
    small = transforms.to_tensor(small) if recipe.kind == "pil" else small
    return transforms.normalize(small, list(recipe.mean), list(recipe.std))


def _opened(path: Path | str) -> Path | str | io.BytesIO:
    """What Pillow and torch open: a file's path, or all bytes of what a URL names."""
    if "://" not in str(path):
        return path
    system, key = url_to_fs(str(path))  # the same client each time, except in a new process
    return io.BytesIO(system.cat_file(key))


def _names_in(folder: Path | str) -> list[str]:
    if "://" not in str(folder):
        return os.listdir(folder)
    system, key = url_to_fs(str(folder))
    return system.ls(key, detail=False)


class Pictures(Dataset[tuple[Any, ...]]):
    """Views of pictures: newly drawn, or those of the given boxes and flips."""

    def __init__(
        self,
        paths: Sequence[Path | str],
        recipe: Recipe,
        stored: dict[int, tuple[Sequence[int], bool]] | None = None,
    ) -> None:
        self._paths, self._recipe, self._stored = paths, recipe, stored
        self._change = RandAugment() if recipe.rand_augment else None

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        with Image.open(_opened(self._paths[index])) as file:
            picture = file.convert("RGB")
        if self._change is not None:
            picture = self._change(picture)
        if self._stored is None:
            box = RandomResizedCrop.get_params(
                picture,  # pyright: ignore[reportArgumentType]
                list(self._recipe.crop_scale),
                [3 / 4, 4 / 3],
            )
            flip = bool(torch.rand(1) < 0.5)
        else:
            box, flip = self._stored[index]
        return cut(picture, box, flip, self._recipe), torch.tensor(box), flip, index


def cutmix_box(height: int, width: int) -> tuple[float, tuple[int, int, int, int]]:
    """lam and (row0, row1, column0, column1)."""
    lam = float(np.random.beta(1.0, 1.0))
    side = np.sqrt(1.0 - lam)
    half_rows, half_columns = int(height * side) // 2, int(width * side) // 2
    row, column = np.random.randint(height), np.random.randint(width)
    return lam, (
        max(row - half_rows, 0), min(row + half_rows, height),
        max(column - half_columns, 0), min(column + half_columns, width),
    )  # fmt: skip


def paste(images_BCHW: Tensor, partner_B: Tensor, box: Sequence[int]) -> Tensor:
    """CutMix of a batch in place."""
    row0, row1, column0, column1 = box
    images_BCHW[:, :, row0:row1, column0:column1] = images_BCHW[partner_B, :, row0:row1, column0:column1]
    return images_BCHW


def drawn_batches(
    paths: Sequence[Path], recipe: Recipe, batch_size: int
) -> Iterator[tuple[Tensor, list[Any]]]:
    """One epoch to label: mixed views of each batch, and what its file holds beside the labels."""
    for images, box, flip, index in DataLoader(Pictures(paths, recipe), batch_size, shuffle=True):
        partner = torch.randperm(len(images))
        lam, mixed = cutmix_box(*images.shape[-2:])
        yield paste(images, partner, mixed), [box, flip, partner, lam, list(mixed), index]


def relabel_epoch(
    paths: Sequence[Path],
    recipe: Recipe,
    batch_size: int,
    observers: Sequence[Callable[[Tensor], Tensor]],
    folder: Path,
) -> None:
    """Labels one epoch, one file a batch; without observers only the views are made."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        for number, (images, stored) in enumerate(drawn_batches(paths, recipe, batch_size)):
            if observers:
                logits = torch.stack([observer(images) for observer in observers]).mean(0).half()
                torch.save([*stored, logits], folder / f"batch_{number}.tar")


def stored_batches(
    paths: Sequence[Path | str],
    recipe: Recipe,
    folder: Path | str,
    *,
    workers: int = 0,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """One labelled epoch, batch by batch: mixed views, soft labels and which pictures they are.

    All files of the epoch are read before its first picture.

    Args:
        paths: of the pictures: files or URLs.
        recipe: as they were labelled.
        folder: of the epoch: a local one or a URL.
        workers: of the loader of pictures.
    """
    names = [f"{folder}/batch_{number}.tar" for number in range(len(_names_in(folder)))]
    files = [torch.load(_opened(name), weights_only=True) for name in names]
    views = {
        int(index): (box.tolist(), bool(flip))
        for file in files
        for box, flip, index in zip(file[0], file[1], file[5], strict=True)
    }
    batches = [file[5].tolist() for file in files]
    loader = DataLoader(Pictures(paths, recipe, views), batch_sampler=batches, num_workers=workers)
    for (images, _, _, index), file in zip(loader, files, strict=True):
        yield paste(images, file[2], file[4]), file[6].float(), index


class Trainer:
    """AdamW and averaged parameters, parameter by parameter; the loss is squared error plus cross entropy."""

    def __init__(self, network: nn.Module, *, rate: float, decay: float, average: float) -> None:
        named = list(network.named_parameters())
        heavy = [value for name, value in named if "weight" in name and value.ndim > 1]
        others = [value for name, value in named if not ("weight" in name and value.ndim > 1)]
        groups = [{"params": heavy, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=rate)
        self._network, self._average = network, average
        self._averaged = {name: value.detach().clone() for name, value in named}

    def step(self, views_BCHW: Tensor, logits_BK: Tensor, labels_B: Tensor) -> float:
        """One step; the loss as a number, which the programs print."""
        out = self._network(views_BCHW)
        loss = F.mse_loss(out, logits_BK) + 0.025 * F.cross_entropy(out, labels_B)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        with torch.no_grad():
            for name, value in self._network.named_parameters():
                kept = self._averaged[name]
                kept.copy_(kept * self._average + value * (1 - self._average))
        return loss.item()
