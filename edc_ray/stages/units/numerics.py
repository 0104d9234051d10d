"""The numbers, the threads and the compiler with which a run computes.

The mode of work cannot change the bits: threads, precision and determinism of a unit come from the config.
`precision` and `compile` say how each stage computes its networks:

squeeze       forwards and backwards of training in the run's precision; accuracies in float32
statistics    forwards as in recover: 16 bits round both sides of a distance alike; moments are taken in
              float32 and summed in float64. Never compiled: one pass
init          scores; only their order counts. Never compiled: one pass, in parts of many sizes
recover       forwards and backwards to the pixels; pixels, optimiser, statistics, distances in float32
relabel       forwards; the mean over the observers in float32, stored as its codec says
evaluate      forwards and backwards of training; weights, averages, optimiser, losses and accuracies in
              float32: reported accuracies are of the weights, not of the rounding
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from threading import Lock
from typing import Any

import torch
from torch import nn

from edc_ray.config.run import Compile, Precision, RunConfig
from edc_ray.core.layers.network_numerics import HALF_TYPES, NetworkNumerics
from edc_ray.errors import ConfigError

_AUTO: dict[str, Precision] = {"cuda": "tf32"}
"""The published programs run with torch's defaults, which let cuDNN's convolutions round to TF32."""
_HALF: dict[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_MODES: dict[Compile, str] = {
    "default": "default",
    "max-autotune": "max-autotune-no-cudagraphs",
    "graphs": "reduce-overhead",
}
# One network: in training and evaluation, with and without gradient, for whole batches and an epoch's last.
# A process has many networks of one class.
_RECOMPILATIONS = 256
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt's names, malloc.h
_LARGEST_BLOCK = 1 << 28
"""Bytes; larger blocks go back to the system when they are freed."""
_KEPT = 1 << 29
"""Bytes at most that stay at the end of the heap."""


def chosen_precision(config: RunConfig, device: torch.device, earlier: RunConfig | None) -> Precision:
    """The precision of a run: `auto` is that of the results of `earlier`, else the device's."""
    if config.precision != "auto":
        return config.precision
    if earlier is not None and earlier.device == device.type and earlier.precision != "auto":
        return earlier.precision
    return _AUTO.get(device.type, "float32")


def check_numerics(config: RunConfig, device: torch.device) -> None:
    """Raise a ConfigError for a precision or a compiler that a device is known to lack."""
    compiles = config.compile not in ("auto", "none")
    if device.type == "mps" and config.precision in _HALF:
        raise ConfigError(
            f"precision={config.precision} is for cpu and cuda",
            found="device mps",
            next="set precision=float32",
        )
    if device.type == "mps" and compiles:
        raise ConfigError(
            f"compile={config.compile} is for cpu and cuda", found="device mps", next="set compile=none"
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
    if device.type == "cpu" and config.compile == "graphs":
        raise ConfigError(
            "compile=graphs captures CUDA graphs",
            found="device cpu",
            next="set compile=default or compile=none",
        )
    compiler = os.environ.get("CXX", "g++")  # torch looks for no other
    if device.type == "cpu" and compiles and shutil.which(compiler) is None:
        raise ConfigError(
            f"compile={config.compile} needs a C++ compiler",
            found=f"no {compiler} on PATH",
            next="install g++, or set the environment's CXX=clang++, or compile=none",
        )


class _OfProcess:
    """Settings that all threads of a process share: set by its first unit, put back by its last."""

    def __init__(self) -> None:
        self._lock, self._units = Lock(), 0
        self._put_back = ExitStack()

    @contextmanager
    def held(self, config: RunConfig, device: torch.device) -> Iterator[None]:
        with self._lock:
            if self._units == 0:
                self._set(config, device)
            self._units += 1
        try:
            yield
        finally:
            with self._lock:
                self._units -= 1
                if self._units == 0:
                    self._put_back.close()

    def _set(self, config: RunConfig, device: torch.device) -> None:
        before = (
            torch.are_deterministic_algorithms_enabled(),
            bool(torch.backends.cuda.matmul.allow_tf32),
            torch.backends.cudnn.allow_tf32,
        )
        self._put_back.callback(_set_flags, *before)
        self._put_back.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
        tf32 = config.precision == "tf32"
        _set_flags(config.deterministic or before[0], tf32, tf32)


_PROCESS = _OfProcess()


@contextmanager
def unit_numerics(config: RunConfig, device: torch.device) -> Iterator[None]:
    """Threads, precision and determinism of one unit; restored afterwards. Units at once have one config.

    The number of threads changes the order of sums, so it comes from the config: Ray sets OMP_NUM_THREADS=1
    in a task of one CPU, and a plain process has all cores. Each thread has a number of its own. Library code
    that draws from torch's global generator (dropout) uses a fork of it.
    """
    keep_freed_memory()
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first use
    threads = torch.get_num_threads()
    torch.set_num_threads(config.cluster.threads_per_unit)
    try:
        with _PROCESS.held(config, device):
            yield
    finally:
        torch.set_num_threads(threads)


def _set_flags(deterministic: bool, matmul_tf32: bool, cudnn_tf32: bool) -> None:
    torch.use_deterministic_algorithms(deterministic)
    # By default torch lets cuDNN round to TF32; here float32 means float32.
    torch.backends.cuda.matmul.allow_tf32 = matmul_tf32
    torch.backends.cudnn.allow_tf32 = cudnn_tf32


@cache
def keep_freed_memory() -> bool:
    """Tell glibc's allocator to keep freed memory, up to a limit; False if there is no such allocator.

    By default glibc returns large blocks to the system at once. Each training step takes the same blocks
    again, and each page of them is then a fault.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))


def network_numerics(config: RunConfig, device: torch.device, *, compiled: bool = True) -> NetworkNumerics:
    """How networks compute on a device. `compiled`: whether the stage follows the config's `compile`."""
    dtype = _HALF.get(config.precision, torch.float32)
    choice = config.compile if compiled else "none"
    return NetworkNumerics(
        dtype=dtype,
        # Units for 16-bit products read channels last; other layouts would be rearranged for every layer.
        memory_format=torch.channels_last if device.type == "cuda" and dtype in HALF_TYPES else None,
        compiler=None if choice in ("auto", "none") else partial(_compiled, choice),
        copies_outputs=choice == "graphs",
    )


def _compiled(choice: Compile, module: nn.Module) -> Callable[..., Any]:
    """The module behind torch's compiler, whose files are in TORCHINDUCTOR_CACHE_DIR, not in the run."""
    from torch._inductor import list_mode_options

    # Compiled code draws random numbers (dropout) as torch does.
    options: dict[str, Any] = {**list_mode_options(_MODES[choice]), "fallback_random": True}
    return torch.compile(module, options=options, dynamic=False, recompile_limit=_RECOMPILATIONS)  # pyright: ignore[reportCallIssue]


def placed(network: nn.Module, config: RunConfig, device: torch.device) -> nn.Module:
    """The network on the device, its weights in the layout that is fastest in its precision."""
    network = network.to(device)
    memory_format = network_numerics(config, device).memory_format
    return network if memory_format is None else network.to(memory_format=memory_format)
