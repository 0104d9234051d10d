"""Registers functions that start kernels as operations of torch."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from edc_ray.kernels.cuda import plain_form

Function = TypeVar("Function", bound=Callable[..., Any])

_LIBRARY = torch.library.Library("edc_ray", "FRAGMENT")


def operation(name: str, schema: str) -> Callable[[Function], Function]:
    """Registers a function as torch.ops.edc_ray.NAME.

    On a CPU it is `plain_form`'s, or with TRITON_INTERPRET=1 the kernels themselves, run by Triton's
    interpreter, which takes milliseconds for each program.
    """

    def register(function: Function) -> Function:
        _LIBRARY.define(f"{name}{schema}")
        _LIBRARY.impl(name, function, "CUDA")
        interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        _LIBRARY.impl(name, function if interpreted else getattr(plain_form, name), "CPU")
        return function

    return register


def fake(name: str) -> Callable[[Function], Function]:
    """Registers a function that gives an operation's results without their numbers."""
    return torch.library.register_fake(f"edc_ray::{name}", lib=_LIBRARY)
