"""What the benchmarks of relabel and of a student's steps share: made images, on disk and in memory."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from harness import base_parser
from reference.label_batches import Recipe, write_pictures
from torch import Tensor

from edc_ray.core.seeding import draws
from edc_ray.core.views.views import EpochViews, ViewSettings, draw_epoch_views
from tests.data.made_images import synthetic_images

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Work:
    """Images with their slots, and the same as files; how their views are made, ours and the reference's."""

    images: Tensor
    slots: list[tuple[int, int]]
    paths: list[Path]
    settings: ViewSettings
    recipe: Recipe

    @property
    def labels(self) -> Tensor:
        return torch.tensor([label for label, _ in self.slots])

    @property
    def ipc_ids(self) -> np.ndarray:
        return np.array([ipc_id for _, ipc_id in self.slots])

    def views(self, epoch: int) -> EpochViews:
        return draw_epoch_views(0, epoch, self.slots, self.images.shape[-1], self.settings)


def parser(description: str | None) -> argparse.ArgumentParser:
    """Options of both."""
    found = base_parser(description)
    found.add_numerics()
    found.add_argument("--images", type=int, default=500)
    found.add_argument("--image-size", type=int, default=32)
    found.add_argument("--classes", type=int, default=10)
    found.add_argument("--batch-size", type=int, default=50, help="also of a mixing group")
    found.add_argument("--rand-augment", action="store_true")
    found.add_argument("--picture-format", choices=["jpg", "png"], default="jpg", help="of the reference")
    return found


def work_of(options: argparse.Namespace, folder: Path) -> Work:
    """The same for the same options; files are written unless they are there."""
    per_class = max(1, options.images // options.classes)
    made = synthetic_images(options.classes, per_class, options.image_size, 3, seed=0)
    slots = [(label, ipc_id) for label in range(options.classes) for ipc_id in range(per_class)]
    images = np.stack([made.images[label * per_class + ipc_id] for label, ipc_id in slots])
    pictures = folder / "pictures"
    paths = sorted(pictures.iterdir()) if pictures.exists() else []
    if not paths:
        paths = write_pictures(pictures, images, f".{options.picture_format}")
    return Work(
        images=torch.from_numpy(images).to(options.device),
        slots=slots,
        paths=paths,
        settings=ViewSettings(mix_group=options.batch_size, rand_augment=options.rand_augment),
        recipe=Recipe(
            "tensor" if options.image_size >= 224 else "pil", MEAN, STD, rand_augment=options.rand_augment
        ),
    )


def random_logits(count: int, classes: int) -> np.ndarray:
    return draws(0, "logits").normal(count, classes).astype(np.float16)
