from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from edc_ray.core.layers.network_numerics import FLOAT32
from edc_ray.core.recover.captured import CapturedRecover
from edc_ray.core.recover.local_targets import local_class_targets
from edc_ray.core.recover.loop import recover_images
from edc_ray.core.recover.matching import LayerTarget
from edc_ray.core.recover.settings import RecoverSettings
from edc_ray.core.recover.state import LoopState, Observer
from edc_ray.core.seeding import draws
from edc_ray.kernels.cpu.fused_network import fused_network, trial_images
from edc_ray.kernels.cuda.pixels import TritonPixelKernels
from edc_ray.kernels.cuda.statistics import TritonKernels
from tests.core.tiny_observers import make_observer
from tests.core.traced import Traced

SIDE, NAMES = 8, ("a", "b")
LABELS = torch.tensor([0, 1])


def _observers() -> list[Observer]:
    made = []
    for name in NAMES:
        network = make_observer(name, len(made)).network
        kernels = TritonKernels("cpu")
        fused = fused_network(
            network, "gradients", kernels, FLOAT32, trial_images(3, SIDE, torch.device("cpu"))
        )
        made.append(Observer.of(name, fused, kernels=kernels))
    return made


def _noise(seed: int) -> Tensor:
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def _made(observers: list[Observer], captured: CapturedRecover | None) -> list[LoopState]:
    """Two batches, with targets of their own."""
    settings, ends = RecoverSettings(iterations=8), []
    for number in range(2):
        local = local_class_targets(observers, _noise(10 + number), 4)
        targets: Any = {
            name: {layer: LayerTarget(each) for layer, each in layers.items()}
            for name, layers in local.items()
        }
        state = recover_images(
            LoopState.start(_noise(number)), LABELS + number, observers, targets, settings, patch_side=4,
            mean=(0.5,) * 3, std=(0.25,) * 3, draws=partial(draws, 0, number), local_targets=local,
            captured=captured,
        )  # fmt: skip
        ends.append(state)
    return ends


def test_one_trace_of_a_step_serves_all_iterations_and_batches() -> None:
    observers, traces = _observers(), list[Traced]()

    def traced(step: Callable[[], None], *_: object) -> Traced:
        traces.append(Traced(step))
        return traces[-1]

    plain = _made(observers, None)
    replayed = _made(observers, CapturedRecover(TritonPixelKernels(), traced))
    assert len(traces) == len(NAMES)
    assert all(trace.graph is not None for trace in traces)
    for one, other in zip(plain, replayed, strict=True):
        torch.testing.assert_close(one.images, other.images, rtol=1e-3, atol=1e-3)
