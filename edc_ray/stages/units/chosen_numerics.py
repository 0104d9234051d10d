"""Which precision `auto` is, and what a device cannot do: found when a run is opened."""

from __future__ import annotations

import os
import shutil

import torch

from edc_ray.config.run import Precision, RunConfig
from edc_ray.errors import ConfigError

_AUTO: dict[str, Precision] = {"cuda": "tf32"}
"""The published programs run with torch's own defaults, with which cuDNN's convolutions round to TF32."""


def chosen_precision(config: RunConfig, device: torch.device, earlier: RunConfig | None) -> Precision:
    """The precision of a run: `auto` is what the folder began with, else the device's.

    Args:
        config: what is asked for.
        device: where units will compute.
        earlier: resolved config of the results in the folder, if there are any.
    """
    if config.precision != "auto":
        return config.precision
    if earlier is not None and earlier.device == device.type and earlier.precision != "auto":
        return earlier.precision
    return _AUTO.get(device.type, "float32")


def check_numerics(config: RunConfig, device: torch.device) -> None:
    """Refuse a precision or a compiler that there is not on a device, as far as is known here.

    Raises:
        ConfigError: names what is missing.
    """
    _check_precision(config, device)
    _check_compiler(config, device)


def _check_precision(config: RunConfig, device: torch.device) -> None:
    if config.precision in ("bfloat16", "float16") and device.type == "mps":
        raise ConfigError(
            f"precision={config.precision} is for cpu and cuda",
            found="device mps",
            next="set precision=float32",
        )
    # The driver's own machine may have no GPU.
    known = device.type == "cuda" and torch.cuda.is_available()
    if config.precision == "bfloat16" and known and not torch.cuda.is_bf16_supported(False):
        raise ConfigError(
            "precision=bfloat16 needs a GPU that computes in it",
            found=torch.cuda.get_device_name(device),
            expected="compute capability 8.0 or higher",
            next="set precision=float16",
        )


def _check_compiler(config: RunConfig, device: torch.device) -> None:
    if config.compile == "none":
        return
    if device.type == "mps":
        raise ConfigError(
            f"compile={config.compile} is for cpu and cuda", found="device mps", next="set compile=none"
        )
    if device.type == "cpu":
        if config.compile == "graphs":
            raise ConfigError(
                "compile=graphs captures CUDA graphs",
                found="device cpu",
                next="set compile=default or compile=none",
            )
        compiler = os.environ.get("CXX", "g++")  # torch looks for no other
        if shutil.which(compiler) is None:
            raise ConfigError(
                f"compile={config.compile} needs a C++ compiler",
                found=f"no {compiler} on PATH",
                next="install g++, or set the environment's CXX=clang++, or compile=none",
            )
