"""Numerical settings of a unit, set explicitly in every mode so that the mode cannot change the bits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.kept_memory import keep_freed_memory


@contextmanager
def unit_numerics(context: StageContext) -> Iterator[None]:
    """Threads, precision and determinism of one unit; restored afterwards.

    Ray sets OMP_NUM_THREADS=1 in a task of one CPU and a plain process has all cores: the number of
    threads changes the order of sums, so it comes from the config. Library code that draws from torch's
    global generator (dropout) finds a fork of it.
    """
    keep_freed_memory()
    if context.config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at its first use
    before = _settings()
    cuda = [context.device] if context.device.type == "cuda" else []
    tf32 = context.config.precision == "tf32"
    _apply(context.config.cluster.threads_per_unit, context.config.deterministic or before[1], tf32, tf32)
    try:
        with torch.random.fork_rng(devices=cuda):
            yield
    finally:
        _apply(*before)


def _settings() -> tuple[int, bool, bool, bool]:
    return (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        bool(torch.backends.cuda.matmul.allow_tf32),
        torch.backends.cudnn.allow_tf32,
    )


def _apply(threads: int, deterministic: bool, matmul_tf32: bool, cudnn_tf32: bool) -> None:
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    # torch lets cuDNN round to TF32 unless told otherwise; float32 is to mean float32.
    torch.backends.cuda.matmul.allow_tf32 = matmul_tf32
    torch.backends.cudnn.allow_tf32 = cudnn_tf32
