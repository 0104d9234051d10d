"""The stages built from the straightforward parts, for bench_pipeline.py; no program uses it.

Each function does what a stage does, from files to files as the official programs do: one pass over the
images for each observer, hooks that match every layer by itself, pictures opened again in each epoch, a file
of labels for each batch, a student updated parameter by parameter. The parts are proved on the goldens. This
file adds their order and the loop over iterations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as transforms

from .crop_mosaics import best_crops, mosaics_of
from .label_batches import Recipe, Trainer, stored_batches, write_pictures
from .layer_matching import Quantities, hooked
from .statistics_pass import load_image, pass_of_observer

Targets = dict[str, tuple[Quantities, list[Quantities]]]
"""layer -> quantities of the whole set, and of each class."""


@dataclass(frozen=True)
class Pictures:
    """Files of one kind with their labels, and how they are shown."""

    paths: Sequence[Path]
    labels: Sequence[int]
    size: int
    mean: Sequence[float]
    std: Sequence[float]

    def load(self, index: int) -> Tensor:
        return load_image(self.paths[index], self.size, self.mean, self.std)


def targets_of(network: nn.Module, pictures: Pictures, *, batch_size: int, patch_side: int) -> Targets:
    """One pass of an observer; BatchNorms' own estimates are the targets of the whole set."""
    sums = pass_of_observer(
        network, pictures.paths, pictures.labels, batch_size=batch_size, patch_side=patch_side,
        image_size=pictures.size, mean=pictures.mean, std=pictures.std,
    )  # fmt: skip
    modules = dict(network.named_modules())
    found: Targets = {}
    for name, layer in sums.items():
        module = modules[name]
        whole = layer.whole
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            whole = [module.running_mean, module.running_var]
        found[name] = (whole, [layer.class_quantities(label) for label in sorted(set(pictures.labels))])
    return found


def mosaics(
    pictures: Pictures, observers: Sequence[nn.Module], *, ipc: int, factor: int, crops: int, images: int
) -> Iterator[Tensor]:
    """Initial images, class by class."""
    random = np.random.default_rng(0)
    draw = RandomResizedCrop(pictures.size // factor, scale=(0.08, 1.0), ratio=(1.0, 1.0), antialias=True)
    for label in sorted(set(pictures.labels)):
        members = np.flatnonzero(np.asarray(pictures.labels) == label)
        chosen = random.permutation(members)[:images].tolist()
        cut = (torch.stack([draw(pictures.load(index)) for _ in range(crops)]) for index in chosen)
        ranked = best_crops(cut, label, observers, pictures.size)
        wanted = ipc * factor**2
        repeated = (ranked * math.ceil(wanted / len(ranked)))[:wanted]
        yield from mosaics_of(repeated, ipc, pictures.size, factor)


def recover(
    images: Tensor,
    labels: Tensor,
    observers: Mapping[str, nn.Module],
    targets: Mapping[str, Targets],
    *,
    iterations: int,
    rate: float,
    betas: tuple[float, float],
    matching_weight: float,
    momentum: float,
    patch_side: int,
    flip: bool,
    bounds: tuple[Tensor, Tensor],
) -> Tensor:
    """One batch of images: Adam under a cosine, observers in turn, hooks on every layer."""
    leaf = images.clone().requires_grad_()
    optimizer = torch.optim.Adam([leaf], lr=rate, betas=betas, eps=1e-8)
    hooks = {
        name: hooked(network, patch_side, momentum, _terms(targets[name], labels))
        for name, network in observers.items()
    }
    names = list(observers)
    view = RandomResizedCrop(images.shape[-1], scale=(0.5, 1.0), antialias=False)
    for iteration in range(iterations):
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * iteration / iterations))
        name = names[iteration % len(names)]
        shown = view(leaf)
        logits = observers[name](transforms.hflip(shown) if flip and torch.rand(1) < 0.5 else shown)
        first, *rest = [hook.loss for hook in hooks[name]]
        matching = torch.stack([10.0 * first, *rest]).sum()
        loss = F.cross_entropy(logits, labels) + matching_weight * matching
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            leaf.copy_(torch.maximum(torch.minimum(leaf, bounds[1]), bounds[0]))
    for each in hooks.values():
        for hook in each:
            hook.close()
    return leaf.detach()


def _terms(targets: Targets, labels: Tensor) -> dict[str, list[tuple[float, Quantities]]]:
    """Half the whole set's quantities, half the mean of the labels' classes."""
    terms: dict[str, list[tuple[float, Quantities]]] = {}
    for layer, (whole, classes) in targets.items():
        several = [classes[label] for label in labels.tolist()]
        mean = [torch.stack(list(each)).mean(0) for each in zip(*several, strict=True)]
        terms[layer] = [(0.5, whole), (0.5, mean)]
    return terms


def save(images: Tensor, folder: Path, mean: Sequence[float], std: Sequence[float]) -> list[Path]:
    """Normalised images as pictures."""
    pixels = images * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)
    return write_pictures(folder, (pixels.clamp(0, 1) * 255).to(torch.uint8).numpy(), ".png")


def train_and_judge(
    network: nn.Module,
    paths: Sequence[Path],
    labels: Tensor,
    recipe: Recipe,
    epochs: Sequence[Path],
    val: Pictures,
) -> float:
    """Train a student on stored epochs; the share of real images that it classifies correctly."""
    trainer = Trainer(network.train(), rate=0.001, decay=0.01, average=0.99)
    for folder in epochs:
        for views, logits, index in stored_batches(paths, recipe, folder):
            trainer.step(views, logits, labels[index])
    network.eval()
    correct = 0
    with torch.no_grad():
        for first in range(0, len(val.paths), 256):
            batch = range(first, min(first + 256, len(val.paths)))
            logits = network(torch.stack([val.load(index) for index in batch]))
            correct += sum(
                int(row.argmax()) == val.labels[index] for row, index in zip(logits, batch, strict=True)
            )
    return correct / len(val.paths)
