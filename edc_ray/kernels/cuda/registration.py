"""Registers functions that start kernels as operations of torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch

# How many kernels each operation starts at most. A gradient through whole tiles, or none, takes one, not two.
LAUNCHES = {
    "moments": 2,
    "moments_gradient": 2,
    "norm": 1,
    "norm_moments": 2,
    "norm_gradient": 1,
    "shared_view": 1,
    "shared_view_gradient": 2,
    "pixel_step": 1,
}
_LIBRARY = torch.library.Library("edc_ray", "FRAGMENT")


def operation(
    name: str, schema: str, plain: Callable[..., Any], fake: Callable[..., Any]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function, named in `LAUNCHES`, as torch.ops.edc_ray.NAME. The schema begins at the bracket.

    `plain` computes the same on a CPU. With TRITON_INTERPRET=1 Triton's interpreter runs the kernels there
    instead; each program takes it milliseconds. `fake` gives results of the right shape and layout without
    numbers.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        assert name in LAUNCHES, f"{name} does not say how many kernels it starts"
        _LIBRARY.define(f"{name}{schema}")
        _LIBRARY.impl(name, function, "CUDA")
        interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        _LIBRARY.impl(name, function if interpreted else plain, "CPU")
        torch.library.register_fake(f"edc_ray::{name}", fake, lib=_LIBRARY)
        return function

    return register
