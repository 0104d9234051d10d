"""Matching loss of a convolution over three batches: value, gradient, estimate (b global, c local)."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from edc_ray.core.layers.moments import LayerStatistics
from tests.core.one_layer import layer_statistics
from tests.goldens.files import TOLERANCE, golden_names, load_golden
from tests.goldens.layer_matching import Step, all_kernels, follow, momenta, rows_of_targets

OFFICIAL = ("dd_mean", "dd_var", "patch_mean", "patch_var")


def _statistics(data: dict[str, Any], prefix: str) -> LayerStatistics:
    return LayerStatistics(*(torch.tensor(data[f"{prefix}_{name}"]) for name in OFFICIAL))


def _check(data: dict[str, Any], momentum: str, steps: list[Step]) -> None:
    prefix = f"out_{momentum}_"
    assert len(steps) == len(data[prefix + "r_feature"])
    for index, step in enumerate(steps):
        np.testing.assert_allclose(step.loss, data[prefix + "r_feature"][index], **TOLERANCE["loss"])
        np.testing.assert_allclose(step.gradient, data[prefix + "grad"][index], **TOLERANCE["gradient"])
        names = ("mean", "var", "patch_mean", "patch_var")
        for name, quantity in zip(names, step.estimate.quantities, strict=True):
            np.testing.assert_allclose(quantity, data[f"{prefix}ema_{name}"][index], **TOLERANCE["statistic"])


@pytest.mark.parametrize("name", golden_names("b_conv_hook_global_*.npz"))
def test_conv_matching_with_class_averages_equals_the_official_hook(name: str) -> None:
    data = load_golden(name)
    classes = _statistics(data, "class")
    targets = [classes.mean_over(labels) for labels in rows_of_targets(data)]
    whole, patch_side = _statistics(data, "global"), int(data["patch_size"])
    for (momentum, value), kernels in product(momenta(data).items(), all_kernels().values()):
        steps = follow(data["x"], patch_side, value, whole, targets, kernels)
        _check(data, momentum, steps)


@pytest.mark.parametrize("name", golden_names("c_conv_hook_local_*.npz"))
def test_conv_matching_with_local_targets_equals_the_official_hook(name: str) -> None:
    data = load_golden(name)
    patch_side = int(data["patch_size"])
    # The official ImageNet-1k code drops the global term when the class targets are local.
    weights = {"global_weight": 0.0, "class_weight": 1.0} if "in1k" in name else {}
    local = layer_statistics(torch.tensor(data["tea_x"]), patch_side)
    for momentum, value in momenta(data).items():
        recorded = _statistics(data, f"out_{momentum}_tea")
        for ours, theirs in zip(local.quantities, recorded.quantities, strict=True):
            np.testing.assert_allclose(ours, theirs, **TOLERANCE["statistic"])
        targets = [local] * len(data["x"])
        whole = _statistics(data, "global")
        for kernels in all_kernels().values():
            steps = follow(data["x"], patch_side, value, whole, targets, kernels, **weights)
            _check(data, momentum, steps)
