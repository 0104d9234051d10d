"""Follows one layer's matching over consecutive batches, for the goldens a, b and c."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edc_ray.core.layers.measured_input import StatisticKernels, measure
from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.layers.torch_kernels import TORCH_KERNELS
from edc_ray.core.recover.matching import Layout, pack, updated_estimate
from edc_ray.kernels.cpu.statistics import CompiledKernels, compiled_kernels
from tests.core.one_layer import matching_loss


@dataclass
class Step:
    loss: float
    gradient: Tensor
    estimate: LayerStatistics


def all_kernels() -> dict[str, StatisticKernels]:
    """The kernels that this machine has, by name."""
    compiled = compiled_kernels()
    return {
        TORCH_KERNELS.name: TORCH_KERNELS,
        **({compiled.name: compiled} if isinstance(compiled, CompiledKernels) else {}),
    }


def momenta(data: dict[str, Any]) -> dict[str, float]:
    """Names and values of the momenta in a golden file: {"mom0.8": 0.8, ...}."""
    names = {key.split("_")[1] for key in data if key.startswith("out_mom")}
    assert names, "the file holds no outputs"
    return {name: float(name.removeprefix("mom")) for name in sorted(names)}


def rows_of_targets(data: dict[str, Any]) -> Tensor:
    """Rows of the file's class table for each target; its classes may stand in any order."""
    row_of = {class_id: row for row, class_id in enumerate(data["class_ids"].tolist())}
    return torch.tensor([[row_of[target] for target in batch] for batch in data["targets"].tolist()])


def follow(
    x_NBCHW: np.ndarray,
    patch_side: int | None,
    momentum: float,
    global_target: LayerStatistics,
    class_targets: Sequence[LayerStatistics],
    kernels: StatisticKernels = TORCH_KERNELS,
    **weights: float,
) -> list[Step]:
    state: Tensor | None = None
    steps: list[Step] = []
    for batch, class_target in zip(x_NBCHW, class_targets, strict=True):
        x = torch.tensor(batch, requires_grad=True)
        current = LayerStatistics(*measure(x, patch_side, kernels)[1])
        layout = Layout.of({"layer": current})
        packed = pack([current])
        before = torch.zeros_like(packed) if state is None else state
        matched, state = updated_estimate(before, packed, momentum)
        loss = matching_loss(layout.unpack(matched)["layer"], global_target, class_target, **weights)
        (gradient,) = torch.autograd.grad(loss, x)
        steps.append(Step(loss.item(), gradient, layout.unpack(state)["layer"]))
    return steps
