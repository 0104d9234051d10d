from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from edc_ray.core.recover.captured import CapturedRecover, why_not_captured
from edc_ray.core.recover.local_targets import local_class_targets
from edc_ray.core.recover.loop import recover_images
from edc_ray.core.recover.matching import LayerTarget
from edc_ray.core.recover.pixel_kernels import TORCH_PIXEL_KERNELS
from edc_ray.core.recover.settings import RecoverSettings
from edc_ray.core.recover.state import LoopState, Observer
from edc_ray.core.seeding import draws
from edc_ray.models.observers import freeze
from edc_ray.models.registry import build_network

SETTINGS = RecoverSettings(iterations=5)
PATCH_SIDE = 4
LABELS = torch.tensor([0, 1, 2])


def _observers() -> list[Observer]:
    names = ("convnet_w32", "convnet_d1")
    networks = [build_network(name, num_classes=4, image_size=16, channels=3, seed=0) for name in names]
    return [Observer.of(name, freeze(each)) for name, each in zip(names, networks, strict=True)]


def _noise(seed: int) -> Tensor:
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def _batches(settings: RecoverSettings, captured: CapturedRecover | None) -> list[LoopState]:
    """Two batches with targets of their own, the second going on with the estimates of the first."""
    observers, state, ends = _observers(), None, []
    for number in range(2):
        local = local_class_targets(observers, _noise(10 + number), PATCH_SIDE)
        targets = {
            name: {layer: LayerTarget(each) for layer, each in layers.items()}
            for name, layers in local.items()
        }
        start = _noise(number)
        state = LoopState.start(start) if state is None else state.next_batch(start, "chain")
        state = recover_images(
            state, LABELS + number % 2, observers, targets, settings,
            patch_side=PATCH_SIDE, mean=(0.5,) * 3, std=(0.25,) * 3,
            draws=partial(draws, 0, number), local_targets=local,
            captured=captured,
        )  # fmt: skip
        ends.append(state)
    return ends


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"estimate_start": "zero"},
        {"matching_weight": 0.0},
        {"flatness_weight": 1.0, "tv_l2_weight": 0.01, "crop_curriculum": "linear", "crop_scale": (0.1, 1.0)},
    ],
    ids=str,
)
def test_steps_of_fixed_memory_are_the_plain_loop_batch_after_batch(changed: dict[str, Any]) -> None:
    settings = SETTINGS.model_copy(update=changed)
    plain = _batches(settings, None)
    captured = _batches(settings, CapturedRecover(TORCH_PIXEL_KERNELS))
    for one, other in zip(plain, captured, strict=True):
        torch.testing.assert_close(one.images, other.images, rtol=1e-4, atol=1e-4)
        assert (one.iteration, one.adam_step, one.observer_counter) == (
            other.iteration,
            other.adam_step,
            other.observer_counter,
        )
        assert one.estimates.keys() == other.estimates.keys()
        for name, layers in one.estimates.items():
            for layer, statistics in layers.items():
                for a, b in zip(statistics.quantities, other.estimates[name][layer].quantities, strict=True):
                    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_what_cannot_be_captured_is_named_and_runs_as_before() -> None:
    observers = _observers()
    assert why_not_captured(SETTINGS, observers) is None
    jittered = SETTINGS.model_copy(update={"jitter": 2})
    assert why_not_captured(jittered, observers) == "recover.jitter"
    assert why_not_captured(SETTINGS.model_copy(update={"drop_rate": 0.3}), observers) == "recover.drop_rate"
    plain, same = (_batches(jittered, each)[1] for each in (None, CapturedRecover(TORCH_PIXEL_KERNELS)))
    assert torch.equal(plain.images, same.images)
