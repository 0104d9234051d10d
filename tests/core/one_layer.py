"""Statistics and matching loss of one layer alone, from the parts that core puts together for many."""

from __future__ import annotations

import torch
from torch import Tensor

from edc_ray.core.layers.measured_input import measure
from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.layers.torch_kernels import TORCH_KERNELS
from edc_ray.core.recover.matching import Layout, matching_distances, pack


def layer_statistics(x_BCHW: Tensor, patch_side: int | None) -> LayerStatistics:
    """Of one batch: channels, and patches unless `patch_side` is None. Differentiable."""
    return LayerStatistics(*measure(x_BCHW, patch_side, TORCH_KERNELS)[1])


def matching_loss(
    batch: LayerStatistics,
    global_target: LayerStatistics,
    class_target: LayerStatistics,
    *,
    global_weight: float = 0.5,
    class_weight: float = 0.5,
) -> Tensor:
    """Of one layer: the class target is already the mean over the labels of the batch."""
    targets_DT = torch.stack([pack([global_target]), pack([class_target])], 1)
    lengths = torch.tensor(Layout.of({"layer": batch}).flat_lengths, device=targets_DT.device)
    distances_QT = matching_distances(pack([batch]), targets_DT, lengths)
    return (distances_QT * distances_QT.new_tensor([global_weight, class_weight])).sum()
