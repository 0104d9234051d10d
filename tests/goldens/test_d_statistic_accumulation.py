"""Statistics of a small training set, accumulated over uneven batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edc_ray.core.layers.accumulator import StatisticsAccumulator
from tests.goldens.files import TOLERANCE, golden_names, load_golden


def _batches(data: dict[str, Any]) -> list[tuple[dict[str, Tensor], Tensor]]:
    sizes = data["batch_sizes"].tolist()
    images, labels = torch.tensor(data["x"]).split(sizes), torch.tensor(data["labels"]).split(sizes)
    return [({"bn": x, "conv": x}, y) for x, y in zip(images, labels, strict=True)]


@pytest.mark.parametrize("name", golden_names("d_stat_accumulation_*.npz", ("cifar10", "in10")))
def test_accumulated_statistics_equal_the_official_files(name: str) -> None:
    data = load_golden(name)
    accumulator = StatisticsAccumulator({"bn": "bn", "conv": "conv"}, int(data["patch_size"]))
    for activations, labels in _batches(data):
        accumulator.add(activations, labels)
    # The official class files hold patch mean and variance under each other's key.
    straight = ("dd_mean", "dd_var", "patch_mean", "patch_var")
    swapped = ("dd_mean", "dd_var", "patch_var", "patch_mean")
    expected = {
        "bn_class": (accumulator.official_class("bn"), straight[:2]),
        "conv_class": (accumulator.official_class("conv"), swapped),
        "conv_global": (accumulator.official_global("conv"), straight),
    }
    class_ids = accumulator.class_ids.tolist()
    assert class_ids == np.unique(data["labels"]).tolist()
    for file, (statistics, keys) in expected.items():
        for key, ours in zip(keys, statistics.quantities, strict=True):
            theirs = data[f"file_{file}_running_{key}"]
            if file.endswith("_class"):  # a class without images has a row in the official files only
                theirs = theirs[class_ids]
            np.testing.assert_allclose(ours, theirs, **TOLERANCE["statistic"], err_msg=f"{file} {key}")
