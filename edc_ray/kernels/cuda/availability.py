"""Whether the Triton kernels can be had here."""

from __future__ import annotations

import importlib.util
import os
import shutil
from functools import cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from edc_ray.core.recover.captured import CapturedRecover
    from edc_ray.kernels.cuda.statistics import TritonKernels


@cache
def triton_kernels() -> TritonKernels | str:
    """The kernels for CUDA devices, or why there are none. Looks once in a process."""
    if torch.version.hip is not None:
        return "the kernels were never run on ROCm"
    if importlib.util.find_spec("triton") is None:
        return "no Triton"
    # Triton's launcher is a small C program that it compiles itself.
    if not any(map(shutil.which, filter(None, (os.environ.get("CC"), "gcc", "clang", "cc")))):
        return "no C compiler on PATH, which Triton needs"
    if not torch.cuda.is_available():
        return "no CUDA device"
    if torch.cuda.get_device_capability() < (8, 0):
        return "the GPU is older than compute capability 8.0"
    from edc_ray.kernels.cuda.statistics import TritonKernels

    return TritonKernels()


def captured_recover_for(device: torch.device) -> CapturedRecover | None:
    """Captured iterations of recover for a device; None if its kernels are missing."""
    if device.type != "cuda" or isinstance(triton_kernels(), str):
        return None
    from edc_ray.core.recover.captured import CapturedRecover
    from edc_ray.kernels.cuda.pixels import TritonPixelKernels

    return CapturedRecover(TritonPixelKernels())
