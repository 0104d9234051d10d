"""What a run computes on, in one line: the device, its memory, the precision, what is captured."""

from __future__ import annotations

import torch

from edc_ray.config.run import RunConfig
from edc_ray.errors import plural
from edc_ray.kernels.cuda.availability import triton_kernels

_GIB = 1 << 30


def device_line(config: RunConfig, device: torch.device) -> str:
    """The line for a run whose `precision` is chosen. Workers may have a GPU that this machine lacks."""
    if device.type == "cuda":
        return f"device: {_gpu(device)}, {config.precision}; {_captured(config)}"
    threads = plural(config.cluster.threads_per_unit, "thread")
    return f"device: {device.type}, {config.precision}, {threads} for each unit"


def _gpu(device: torch.device) -> str:
    if not torch.cuda.is_available():
        return "cuda, on the workers"
    free, total = (size / _GIB for size in torch.cuda.mem_get_info(device))
    return f"{torch.cuda.get_device_name(device)}, {free:.1f} of {total:.1f} GiB free"


def _captured(config: RunConfig) -> str:
    if config.compile == "graphs":
        return "networks are captured as CUDA graphs (compile=graphs)"
    if config.compile != "auto":
        return f"nothing is captured (compile={config.compile})"
    if not torch.cuda.is_available() or not isinstance(why := triton_kernels(), str):
        return "captured as CUDA graphs: recover, training steps, forwards"
    return f"captured as CUDA graphs: training steps, forwards; not recover: {why}"
