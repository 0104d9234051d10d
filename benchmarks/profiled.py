"""What a run spends its time on: torch's profiler around each step, and our own kernels by name.

On a CPU the profiler counts wall time, so its shares mean something only if nothing else runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from harness import print_table
from torch.profiler import ProfilerActivity, profile, record_function

from edc_ray.kernels.cpu.statistics import CompiledKernels
from edc_ray.kernels.cpu.views import CompiledViews

Watch = Callable[[str, Callable[[], object]], None]

_KERNELS = {
    "kernel: moments of layers": (CompiledKernels, "statistics"),
    "kernel: gradient of moments": (CompiledKernels, "add_gradient"),
    "kernel: moments of images": (CompiledKernels, "image_statistics"),
    "kernel: views": (CompiledViews, "__call__"),
}
_REST = "no operation: Python, files, codecs, drawing"


@contextmanager
def _named_kernels() -> Iterator[None]:
    """Our kernels as operations that the profiler sees."""
    with ExitStack() as stack:
        for name, (kind, method) in _KERNELS.items():
            stack.enter_context(patch.object(kind, method, _recorded(name, getattr(kind, method))))
        yield


def _recorded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any, **named: Any) -> Any:
        with record_function(name):
            return function(*arguments, **named)

    return run


def print_profile(
    run: Callable[[Watch], object], count: int, device: torch.device
) -> dict[str, list[dict[str, Any]]]:
    """A table for each step of a run: operations by their time, without the operations that they call.

    Args:
        run: is given a function that is given each step's name and the step.
        count: operations in a table.
        device: on CUDA times are the device's.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]

    def watch(name: str, step: Callable[[], object]) -> None:
        with profile(activities=activities) as profiler:
            # Starting and ending the profiler takes seconds, too.
            begun = time.perf_counter()
            step()
            spent = time.perf_counter() - begun
        found[name] = rows_of(profiler, count, None if cuda else spent)
        header = [name, "self s", "share", "calls"]
        print_table(
            header, [[row["operation"], row["self_s"], row["share"], row["calls"]] for row in found[name]]
        )
        print()

    with _named_kernels():
        run(watch)
    return found


def rows_of(profiler: profile, count: int, spent: float | None) -> list[dict[str, Any]]:
    """The first `count` operations, the others together, and the part of `spent` that no operation took."""
    seconds = {
        event.key: (1e-6 * (event.self_cpu_time_total if spent is not None else event.self_device_time_total),
                    event.count)
        for event in profiler.key_averages()
    }  # fmt: skip
    ranked = sorted(seconds.items(), key=lambda item: -item[1][0])
    known = sum(value for value, _ in seconds.values())
    total = known if spent is None else max(spent, known)
    rows = [(name, value, calls) for name, (value, calls) in ranked[:count]]
    others = ranked[count:]
    rows.append(
        ("all other operations", sum(value for _, (value, _) in others), sum(n for _, (_, n) in others))
    )
    if spent is not None:
        rows.append((_REST, total - known, 0))
    return [
        {"operation": name, "self_s": value, "share": value / total if total else 0.0, "calls": calls}
        for name, value, calls in rows
    ]
