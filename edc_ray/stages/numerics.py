"""Numerical settings of a unit, set explicitly in every mode so that the mode cannot change the bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from edc_ray.stages.context import StageContext


@contextmanager
def unit_numerics(context: StageContext) -> Iterator[None]:
    """Threads and determinism of one unit; restored afterwards.

    Ray sets OMP_NUM_THREADS=1 in a task of one CPU and a plain process has all cores: the number of
    threads changes the order of sums, so it comes from the config. Library code that draws from torch's
    global generator (dropout) finds a fork of it.
    """
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    cuda = [context.device] if context.device.type == "cuda" else []
    torch.set_num_threads(context.config.cluster.threads_per_unit)
    if context.config.deterministic:
        torch.use_deterministic_algorithms(True)
    try:
        with torch.random.fork_rng(devices=cuda):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
