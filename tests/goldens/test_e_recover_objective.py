"""The whole recover loop of the official programs on two tiny observers: losses, rates, images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edc_ray.core.layers.measured_input import StatisticKernels
from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.layers.network_numerics import FLOAT32
from edc_ray.core.pixels import denormalise, pixel_bounds
from edc_ray.core.recover.loop import View, recover_images
from edc_ray.core.recover.matching import LayerTarget
from edc_ray.core.recover.official_order import official_slots
from edc_ray.core.recover.settings import RecoverSettings
from edc_ray.core.recover.state import IterationReport, LoopState, Observer
from edc_ray.core.seeding import Draws, draws
from edc_ray.kernels.cpu.fused_network import fused_network
from tests.goldens.files import TOLERANCE, load_golden
from tests.goldens.layer_matching import all_kernels
from tests.goldens.test_g_pixels import CONSTANTS

VARIANTS = [
    ("in10", "plain"),
    ("in10", "sharedverifier"),
    ("cifar10", "plain"),
    ("cifar10", "sharedverifier"),
    ("cifar10", "flatness"),
]
QUANTITIES = ("dd_mean", "dd_var", "patch_mean", "patch_var")


def _network(name: str, weights: dict[str, Tensor]) -> nn.Module:
    num_classes = weights["9.weight" if name == "NetA" else "7.weight"].shape[0]
    if name == "NetA":
        width, deep = weights["0.weight"].shape[0], weights["4.weight"].shape[0]
        layers = [
            nn.Conv2d(3, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.AvgPool2d(2),
        ]
        layers += [nn.Conv2d(width, deep, 3, padding=1), nn.BatchNorm2d(deep), nn.ReLU()]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(deep, num_classes)]
    else:
        width = weights["0.weight"].shape[0]
        layers = [
            nn.Conv2d(3, width, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        ]
        layers += [
            nn.BatchNorm2d(width),
            nn.Tanh(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * width, num_classes),
        ]
    network = nn.Sequential(*layers)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def _observers(data: dict[str, Any], kernels: StatisticKernels) -> list[Observer]:
    observers = []
    for index, name in enumerate(data["observer_names"].tolist()):
        prefix = f"net{index}|"
        weights = {
            key.removeprefix(prefix): torch.tensor(data[key]) for key in data if key.startswith(prefix)
        }
        network = _network(name, weights)
        network = fused_network(network, "gradients", kernels, FLOAT32, torch.zeros(2, 3, 32, 32))
        observers.append(Observer.of(name, network, kernels=kernels))
    return observers


def _layer_target(data: dict[str, Any], observer: Observer, layer: str) -> LayerTarget:
    def read(kind: str) -> LayerStatistics:
        # Keys read "NetA=1" or "NetA_ta=1"; patch keys are taken as they are written, exchanged or not.
        arrays = {
            key.split("|running_")[1]: torch.tensor(data[key])
            for key in data
            if key.startswith(f"stat|{kind}|{observer.name}") and key.split("=")[1].split("|")[0] == layer
        }
        return LayerStatistics(*(arrays[name] for name in QUANTITIES if name in arrays))

    if observer.taps.kinds[layer] == "bn":
        return LayerTarget(observer.taps.running_statistics(layer), read("bn_class"))
    return LayerTarget(read("conv_global"), read("conv_class"))


def _settings(data: dict[str, Any], program: str, variant: str) -> RecoverSettings:
    return RecoverSettings(
        iterations=int(data["opt_iteration"]),
        learning_rate=float(data["opt_lr"]),
        matching_weight=float(data["opt_r_loss"]),
        statistic_momentum=float(data["opt_training_momentum"]),
        estimate_start="zero",
        first_multiplier=float(data["first_multiplier"]),
        flatness_weight=1.0 if variant == "flatness" else 0.0,
        verifier_touches_estimate=variant == "sharedverifier",
        verify_every=20 if program == "in10" else 100,
        verify_final=program == "cifar10",
    )


def _copying_augment(start: Tensor, clipped: Tensor) -> Callable[[Draws, int, tuple[int, int]], View]:
    """No view. The official CIFAR program clips only after the first copy has been made."""

    def augment(_: Draws, iteration: int, __: tuple[int, int]) -> View:
        offset = start - clipped if iteration == 0 else torch.zeros_like(start)
        return lambda images: images + offset

    return augment


def _run(
    program: str, variant: str, kernels: StatisticKernels, parts: int
) -> tuple[dict[str, Any], list[IterationReport], list[Tensor], Tensor]:
    data = load_golden(f"e_recover_objective_{program}.npz")
    mean, std = CONSTANTS["imagenet" if program == "in10" else "cifar"]
    observers = _observers(data, kernels)
    targets = {o.name: {layer: _layer_target(data, o, layer) for layer in o.taps.names} for o in observers}
    settings = _settings(data, program, variant)
    reports: list[IterationReport] = []
    snapshots: list[Tensor] = []

    def keep(report: IterationReport) -> None:
        reports.append(report)
        snapshots.append(report.images.clone())

    size = int(data["opt_batch_size"])
    for observer in observers:
        observer.images_at_once = -(-size // parts)
    state: LoopState | None = None
    finished: list[Tensor] = []
    all_images, all_labels = torch.tensor(data["init_images"]), torch.tensor(data["targets_in_order"])
    for images, labels in zip(all_images.split(size), all_labels.split(size), strict=True):
        start = images.clamp(*pixel_bounds(mean, std, images)) if program == "cifar10" else images
        state = LoopState.start(start) if state is None else state.next_batch(start, carry="chain")
        state = recover_images(
            state,
            labels,
            observers,
            targets,
            settings,
            patch_side=int(data["patch_size"]),
            mean=mean,
            std=std,
            draws=partial(draws, 0),
            augment=_copying_augment(images, start),
            on_iteration=keep,
        )
        finished.append(denormalise(state.images, mean, std))
    return data, reports, snapshots, torch.cat(finished)


@pytest.mark.parametrize("parts", [1, 2], ids=["whole", "halves"])
@pytest.mark.parametrize("kernels", all_kernels().values(), ids=all_kernels())
@pytest.mark.parametrize(("program", "variant"), VARIANTS)
def test_recover_loop_equals_the_official_program(
    program: str, variant: str, kernels: StatisticKernels, parts: int
) -> None:
    data, reports, snapshots, finished = _run(program, variant, kernels, parts)
    mean, std = CONSTANTS["imagenet" if program == "in10" else "cifar"]

    def series(name: str) -> list[float]:
        return [getattr(report, name) for report in reports]

    np.testing.assert_allclose(series("learning_rate"), data[f"{variant}|lr"], **TOLERANCE["schedule"])
    np.testing.assert_allclose(
        series("cross_entropy"), data[f"{variant}|loss_ce"], **TOLERANCE["objective_loss"]
    )
    np.testing.assert_allclose(series("loss"), data[f"{variant}|loss"], **TOLERANCE["objective_loss"])
    steps = sorted(key for key in data if key.startswith(f"{variant}|after_step"))
    assert steps
    for key in steps:
        step = int(key.removeprefix(f"{variant}|after_step").removesuffix("_batch0"))
        golden = torch.tensor(data[key])
        golden = golden.clamp(*pixel_bounds(mean, std, golden))
        np.testing.assert_allclose(snapshots[step], golden, **TOLERANCE["image_first_step"])
    np.testing.assert_allclose(finished, data[f"{variant}|final_denorm"], **TOLERANCE["image_at_end"])
    slots = official_slots(int(data["n_classes"]), int(data["opt_ipc_number"]))[: len(finished)]
    assert data[f"{variant}|saved_targets"].tolist() == [label for label, _ in slots]
    assert data[f"{variant}|saved_ipc_ids"].tolist() == [ipc_id for _, ipc_id in slots]


@pytest.mark.parametrize("program", sorted({program for program, _ in VARIANTS}))
def test_every_variant_in_the_file_is_compared(program: str) -> None:
    found = {
        key.removesuffix("|loss")
        for key in load_golden(f"e_recover_objective_{program}.npz")
        if key.endswith("|loss")
    }
    assert found == {variant for each, variant in VARIANTS if each == program}
