"""Clipping, denormalising and 8-bit images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edc_ray.core.pixels import denormalise, pixel_bounds, to_uint8
from tests.goldens.files import TOLERANCE, load_golden

# The constants of the official programs; CIFAR-10 uses those of CIFAR-100 too.
CONSTANTS = {
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "cifar": ([0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_clip_denormalise_and_truncate_equal_the_official_functions(name: str) -> None:
    data = load_golden("g_clip_denorm.npz")
    mean, std = CONSTANTS[name]
    x = torch.tensor(data[f"{name}|x"])
    clipped = x.clamp(*pixel_bounds(mean, std, x))
    np.testing.assert_allclose(clipped, data[f"{name}|clip"], **TOLERANCE["image"])
    np.testing.assert_allclose(denormalise(x, mean, std), data[f"{name}|denorm"], **TOLERANCE["image"])
    both = denormalise(clipped, mean, std)
    np.testing.assert_allclose(both, data[f"{name}|clip_then_denorm"], **TOLERANCE["image"])
    np.testing.assert_array_equal(to_uint8(both), data[f"{name}|uint8"])
