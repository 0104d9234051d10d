"""The straightforward matching that the benchmarks measure against is the official one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.reference.layer_matching import LayerHook, Quantities
from tests.goldens.files import TOLERANCE, golden_names, load_golden
from tests.goldens.layer_matching import momenta, rows_of_targets

BATCH_NORM = ("mean", "var")
CONVOLUTION = ("dd_mean", "dd_var", "patch_mean", "patch_var")


def _tensors(data: dict[str, Any], prefix: str, names: tuple[str, ...]) -> Quantities:
    return [torch.tensor(data[f"{prefix}_{name}"]) for name in names]


def _check(
    data: dict[str, Any], layer: nn.Module, patch_side: int, whole: Quantities, classes: Quantities
) -> None:
    """Losses and gradients of consecutive batches, with half of the weight on the mean of the classes."""
    for name, momentum in momenta(data).items():
        hook = LayerHook(layer, patch_side, momentum, [])
        for index, (batch, labels) in enumerate(zip(data["x"], rows_of_targets(data), strict=True)):
            hook.targets = [(0.5, whole), (0.5, [rows[labels].mean(0) for rows in classes])]
            x: Tensor = torch.tensor(batch, requires_grad=True)
            layer(x)
            (gradient,) = torch.autograd.grad(hook.loss, x)
            golden = f"out_{name}_"
            np.testing.assert_allclose(
                hook.loss.item(), data[golden + "r_feature"][index], **TOLERANCE["loss"]
            )
            np.testing.assert_allclose(gradient, data[golden + "grad"][index], **TOLERANCE["gradient"])
        hook.close()


@pytest.mark.parametrize("name", golden_names("a_bn_hook_global_*.npz"))
def test_reference_of_a_batch_norm_equals_the_official_hook(name: str) -> None:
    data = load_golden(name)
    running = _tensors(data, "bn_running", BATCH_NORM)
    layer = nn.BatchNorm2d(len(running[0])).eval()
    _check(data, layer, 16, running, _tensors(data, "class", BATCH_NORM))


@pytest.mark.parametrize("name", golden_names("b_conv_hook_global_*.npz"))
def test_reference_of_a_convolution_equals_the_official_hook(name: str) -> None:
    data = load_golden(name)
    whole = _tensors(data, "global", CONVOLUTION)
    layer = nn.Conv2d(len(whole[0]), 1, 1)
    _check(data, layer, int(data["patch_size"]), whole, _tensors(data, "class", CONVOLUTION))
