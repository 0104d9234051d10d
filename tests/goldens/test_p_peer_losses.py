"""The losses of SRe2L and G-VBSM on one layer, and total variation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.recover.priors import total_variation
from tests.core.one_layer import layer_statistics
from tests.goldens.files import TOLERANCE, load_golden
from tests.goldens.layer_matching import follow

FILE = "p_peer_losses.npz"
# Of G-VBSM's ImageNet program and of its smaller ones.
PATCH_SIDES = (16, 4)


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return load_golden(FILE)


def target(golden: dict[str, Any], prefix: str, *names: str) -> LayerStatistics:
    return LayerStatistics(*(torch.tensor(golden[f"{prefix}{name}"]) for name in names))


def losses(
    golden: dict[str, Any], patch_side: int | None, momentum: float, target: LayerStatistics
) -> list[float]:
    """Matching to the global target alone, with weight 1."""
    steps = follow(
        golden["x"], patch_side, momentum, target, [target] * len(golden["x"]),
        global_weight=1.0, class_weight=0.0,
    )  # fmt: skip
    return [step.loss for step in steps]


def momenta(golden: dict[str, Any], prefix: str) -> dict[str, float]:
    """Key and momentum of every series in the file."""
    found = {key: float(key.partition("_mom")[2]) for key in golden if key.startswith(f"{prefix}_mom")}
    assert found
    return found


def patch_side_of(golden: dict[str, Any]) -> int:
    """The one that makes as many patches as the file's targets have."""
    x, num_patches = torch.tensor(golden["x"][0]), len(golden["gvbsm_running_patch_mean"])
    return next(side for side in PATCH_SIDES if len(layer_statistics(x, side).quantities[2]) == num_patches)


def test_sre2l_matches_batchnorm_statistics_without_a_running_estimate(golden: dict[str, Any]) -> None:
    batch_norm = target(golden, "bn_running_", "mean", "var")
    np.testing.assert_allclose(
        losses(golden, None, 0.0, batch_norm), golden["sre2l_r_feature"], **TOLERANCE["loss"]
    )


def test_gvbsm_matches_batchnorm_statistics_through_a_running_estimate_from_zero(
    golden: dict[str, Any],
) -> None:
    batch_norm = target(golden, "bn_running_", "mean", "var")
    for key, momentum in momenta(golden, "gvbsm_bn_r_feature").items():
        np.testing.assert_allclose(
            losses(golden, None, momentum, batch_norm), golden[key], **TOLERANCE["loss"]
        )


def test_gvbsm_matches_channels_and_patches_of_a_convolution(golden: dict[str, Any]) -> None:
    names = ("dd_mean", "dd_var", "patch_mean", "patch_var")
    whole = target(golden, "gvbsm_running_", *names)
    patch_side = patch_side_of(golden)
    for key, momentum in momenta(golden, "gvbsm_conv_r_feature").items():
        np.testing.assert_allclose(
            losses(golden, patch_side, momentum, whole), golden[key], **TOLERANCE["loss"]
        )


def test_total_variation_equals_the_official_one(golden: dict[str, Any]) -> None:
    ours = total_variation(torch.tensor(golden["x"][0]))
    for name in ("l1", "l2"):
        np.testing.assert_allclose(getattr(ours, name), golden[f"tv_{name}"], **TOLERANCE["loss"])
