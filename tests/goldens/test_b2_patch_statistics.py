"""Channel and patch statistics of activations whose sides are no multiples of the patch side."""

from __future__ import annotations

import numpy as np
import torch

from tests.core.one_layer import layer_statistics
from tests.goldens.files import TOLERANCE, load_golden


def test_patch_statistics_of_awkward_sizes_equal_the_official_ones() -> None:
    data = load_golden("b2_patch_stats_sizes.npz")
    cases = [key.removesuffix("_x") for key in data if key.endswith("_x")]
    assert cases
    for case in cases:
        patch_side = int(case.split("_")[0].removeprefix("q"))
        statistics = layer_statistics(torch.tensor(data[f"{case}_x"]), patch_side)
        for name, ours in zip(
            ("dd_mean", "dd_var", "patch_mean", "patch_var"), statistics.quantities, strict=True
        ):
            np.testing.assert_allclose(
                ours, data[f"{case}_{name}"], **TOLERANCE["statistic"], err_msg=f"{case} {name}"
            )
