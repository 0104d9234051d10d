"""Images of any number and size, for benchmarks whose time does not depend on what is in them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

SOURCE = "made_images:images"
"""As `dataset.train` and `dataset.val`."""


@dataclass
class Sizes:
    """What `images` makes."""

    counts: dict[str, int] = field(default_factory=lambda: {"train": 50_000, "val": 10_000})
    classes: int = 10
    image_size: int = 32


sizes = Sizes()


def images(role: str) -> tuple[np.ndarray, np.ndarray, None]:
    """Noise around a colour of each class, so that observers learn something: uint8 [N, S, S, 3], labels."""
    count, side = sizes.counts[role], sizes.image_size
    labels = np.arange(count) % sizes.classes
    colours = np.random.default_rng(0).integers(60, 196, (sizes.classes, 1, 1, 3), dtype=np.int16)
    # One block of noise, shifted for each image: fresh noise for 50,000 images would take longer than a step.
    noise = np.random.default_rng(len(role)).integers(-60, 60, (4096, side, 3), dtype=np.int16)
    starts = np.random.default_rng(1).integers(0, len(noise) - side, count)
    rows = starts[:, None] + np.arange(side)
    return (colours[labels] + noise[rows]).astype(np.uint8), labels, None
