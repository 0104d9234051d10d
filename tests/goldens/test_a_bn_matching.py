"""Matching loss of a BatchNorm over three batches: value, gradient, estimate (a global, c local)."""

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


def _check(data: dict[str, Any], momentum: str, steps: list[Step]) -> None:
    prefix = f"out_{momentum}_"
    assert len(steps) == len(data[prefix + "r_feature"])
    for index, step in enumerate(steps):
        np.testing.assert_allclose(step.loss, data[prefix + "r_feature"][index], **TOLERANCE["loss"])
        np.testing.assert_allclose(step.gradient, data[prefix + "grad"][index], **TOLERANCE["gradient"])
        estimate = step.estimate
        np.testing.assert_allclose(
            estimate.channel_mean, data[prefix + "ema_mean"][index], **TOLERANCE["statistic"]
        )
        np.testing.assert_allclose(
            estimate.channel_variance, data[prefix + "ema_var"][index], **TOLERANCE["statistic"]
        )


@pytest.mark.parametrize("name", golden_names("a_bn_hook_global_*.npz"))
def test_bn_matching_with_class_averages_equals_the_official_hook(name: str) -> None:
    data = load_golden(name)
    running = LayerStatistics(torch.tensor(data["bn_running_mean"]), torch.tensor(data["bn_running_var"]))
    classes = LayerStatistics(torch.tensor(data["class_mean"]), torch.tensor(data["class_var"]))
    targets = [classes.mean_over(labels) for labels in rows_of_targets(data)]
    for (momentum, value), kernels in product(momenta(data).items(), all_kernels().values()):
        steps = follow(data["x"], None, value, running, targets, kernels)
        _check(data, momentum, steps)


@pytest.mark.parametrize("name", golden_names("c_bn_hook_local_*.npz"))
def test_bn_matching_with_local_targets_equals_the_official_hook(name: str) -> None:
    data = load_golden(name)
    running = LayerStatistics(torch.tensor(data["bn_running_mean"]), torch.tensor(data["bn_running_var"]))
    # The official ImageNet-1k code drops the global term when the class targets are local.
    weights = {"global_weight": 0.0, "class_weight": 1.0} if "in1k" in name else {}
    local = layer_statistics(torch.tensor(data["tea_x"]), None)
    for momentum, value in momenta(data).items():
        for ours, kind in zip(local.quantities, ("mean", "var"), strict=True):
            np.testing.assert_allclose(ours, data[f"out_{momentum}_tea_{kind}"], **TOLERANCE["statistic"])
        targets = [local] * len(data["x"])
        for kernels in all_kernels().values():
            _check(data, momentum, follow(data["x"], None, value, running, targets, kernels, **weights))
