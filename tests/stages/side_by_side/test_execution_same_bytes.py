"""Observers and students trained at the same time in one process: every stored byte is that of one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from edc_ray.config.run import StageName
from edc_ray.stages.pipeline import STAGES, run_pipeline
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.plan import UnitOutput, WorkUnit
from tests.stages.tiny_runs import tiny_context

SECONDS = 120.0
AT_ONCE = 3
OBSERVERS = ["convnet_d1", "convnet_d2", "mobilenet_v2_small"]


class DropsOut(nn.Module):
    """A network that draws from torch's random state while it trains."""

    def __init__(self, num_classes: int, image_size: int, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(4 * (image_size - 2) ** 2, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images).flatten(1))


FIELDS: dict[str, Any] = {
    "squeeze__observers": ["convnet_d1", "convnet_d2", f"{__name__}:DropsOut"],
    "squeeze__epochs": 2,
    "recover__iterations": 2,
    "relabel__epochs": 2,
    "evaluate__students": ["convnet_d1", f"{__name__}:DropsOut"],
    "evaluate__rows": ["init", "random"],
    "evaluate__seeds": 1,
    "evaluate__save_students": True,
}


class Watched:
    """A stage whose units wait for each other before they train, and tell which trained at the same time."""

    def __init__(self, stage: StageName, at_once: int) -> None:
        self.together = threading.Barrier(at_once)
        self.inside, self.seen = list[str](), set[frozenset[str]]()
        self.stage = replace(STAGES[stage], run_unit=self.run)

    def run(self, context: StageContext, unit: WorkUnit) -> UnitOutput:
        if context.seat.alone is False:
            self.together.wait(SECONDS)
        return STAGES[unit.stage].run_unit(context, unit)


def stored(context: StageContext) -> dict[str, bytes]:
    """All that the trainings stored: networks, results, curves; not when, or where."""
    found = {}
    for stage in ("squeeze", "evaluate"):
        manifest = context.manifest(stage)
        for shard in manifest.shards:
            found[f"{stage}/{shard.path}"] = shard.sha256.encode()
        for record in manifest.records:
            found[f"{stage}/{record.unit}"] = repr(sorted(record.meta.items())).encode()
    return found
