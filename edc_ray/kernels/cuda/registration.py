"""Registers functions that start kernels as operations of torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch

from edc_ray.kernels.cuda.launch_counts import LAUNCHES

_LIBRARY = torch.library.Library("edc_ray", "FRAGMENT")


def operation(
    name: str, schema: str, plain: Callable[..., Any]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function as torch.ops.edc_ray.NAME.

    Args:
        name: also in `LAUNCHES`.
        schema: torch's, from the bracket on.
        plain: computes the same on a CPU. With TRITON_INTERPRET=1 the kernels themselves do it there, run by
            Triton's interpreter, which takes milliseconds for each program.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        assert name in LAUNCHES, f"{name} does not say how many kernels it starts"
        _LIBRARY.define(f"{name}{schema}")
        _LIBRARY.impl(name, function, "CUDA")
        interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        _LIBRARY.impl(name, function if interpreted else plain, "CPU")
        return function

    return register


def fake(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function that gives an operation's results without their numbers."""
    return torch.library.register_fake(f"edc_ray::{name}", lib=_LIBRARY)  # pyright: ignore[reportReturnType]
