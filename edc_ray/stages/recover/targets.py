"""The statistics that recover matches, as targets of each layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.recover.matching import LayerTarget
from edc_ray.stages.statistics.stage import read_statistics
from edc_ray.stages.units.context import StageContext


def load_targets(context: StageContext, name: str) -> dict[str, LayerTarget]:
    """Targets for one observer, by layer, in the definition that recover.variance asks for.

    Deviations:
        the official program matches patch means with class variances and the reverse, because its writer
        exchanges their keys; `recover.class_patch_swapped` does so, for collected statistics too.
    """
    section, rows, targets = context.config.recover, read_statistics(context, name), {}
    by_class = section.category_aware == "global"
    for layer, kind, definition, scope in rows:
        if definition != section.variance or scope != "global":
            continue
        whole = _tensors(rows[layer, kind, definition, "global"], context)
        classes = _tensors(rows[layer, kind, definition, "class"], context) if by_class else None
        if classes is not None and section.class_patch_swapped:
            # The official class files exchange the keys of the two, and the official recovery reads them so.
            classes = replace(classes, patch_mean=classes.patch_variance, patch_variance=classes.patch_mean)
        targets[layer] = LayerTarget(whole, classes)
    return targets


def _tensors(arrays: dict[str, np.ndarray | None], context: StageContext) -> LayerStatistics:
    moved = {
        name: None if values is None else torch.from_numpy(values).to(context.device)
        for name, values in arrays.items()
    }
    mean, variance = moved["channel_mean"], moved["channel_variance"]
    assert mean is not None
    assert variance is not None
    return LayerStatistics(mean, variance, moved["patch_mean"], moved["patch_variance"])
