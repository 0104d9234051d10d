"""Small frozen observers and targets for the tests of the recover side."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from edc_ray.core.layers.taps import LayerTaps
from edc_ray.core.recover.local_targets import local_class_targets
from edc_ray.core.recover.loop import recover_images
from edc_ray.core.recover.matching import LayerTarget
from edc_ray.core.recover.settings import RecoverSettings
from edc_ray.core.recover.state import LoopState, Observer
from edc_ray.core.seeding import draws

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
NUM_CLASSES = 4
PATCH_SIDE = 4
SETTINGS = RecoverSettings(iterations=4, matching_weight=0.1, verify_every=0, verify_final=False)


def changed(settings: RecoverSettings, **fields: Any) -> RecoverSettings:
    """The settings with other values, unchecked: the loop takes more than a user may ask for."""
    return settings.model_copy(update=fields)


def make_observer(name: str, seed: int) -> Observer:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2)]
        layers += [nn.Conv2d(4, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU()]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, NUM_CLASSES)]
        network = nn.Sequential(*layers).eval().requires_grad_(False)
    return Observer(name, network, LayerTaps(network))


def random_images(count: int, seed: int, side: int = 8) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def targets_of(observers: list[Observer], patch_side: int = PATCH_SIDE) -> dict[str, dict[str, LayerTarget]]:
    """Statistics of random images as global targets, and of other random images as each class's."""
    whole = local_class_targets(observers, random_images(12, 100), patch_side)
    classes = [
        local_class_targets(observers, random_images(3, 101 + k), patch_side) for k in range(NUM_CLASSES)
    ]
    return {
        observer.name: {
            layer: LayerTarget(
                whole[observer.name][layer],
                type(whole[observer.name][layer])(
                    *(
                        torch.stack(rows)
                        for rows in zip(
                            *(each[observer.name][layer].quantities for each in classes), strict=True
                        )
                    )
                ),
            )
            for layer in observer.taps.names
        }
        for observer in observers
    }


@dataclass
class Bench:
    """Two observers and their targets; `run` recovers with them."""

    observers: list[Observer] = field(default_factory=lambda: [make_observer("a", 1), make_observer("b", 2)])
    labels: Tensor = field(default_factory=lambda: torch.tensor([0, 1, 3]))

    def __post_init__(self) -> None:
        self.targets = targets_of(self.observers)

    def run(self, state: LoopState, settings: RecoverSettings = SETTINGS, **options: Any) -> LoopState:
        options = {
            "patch_side": PATCH_SIDE, "mean": MEAN, "std": STD, "draws": partial(draws, 0), **options,
        }  # fmt: skip
        return recover_images(state, self.labels, self.observers, self.targets, settings, **options)


def start(seed: int = 5) -> LoopState:
    return LoopState.start(random_images(3, seed))
