"""What the benchmarks share: interleaved timing, peak memory, tables, provenance, the JSON line.

A benchmark never runs one variant to the end and then the next: what else the machine does would fall on
one of them. It takes the variants in turns and reports the minimum (what the code costs) and the median
(what it cost here and now).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edc_ray.stages.provenance import environment_facts

_MEGABYTE = 1e6


@dataclass(frozen=True)
class Timing:
    """Seconds of one variant over all turns."""

    minimum: float
    median: float


def interleaved(
    variants: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, Timing]:
    """Each variant once untimed, then all of them in turns, `repeats` times."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(-1, repeats):
        for name, run in variants.items():
            _wait(device)
            begun = time.perf_counter()
            run()
            _wait(device)
            if turn >= 0:
                seconds[name].append(time.perf_counter() - begun)
    return {name: Timing(min(each), statistics.median(each)) for name, each in seconds.items()}


def peak_megabytes(run: Callable[[], object], device: torch.device) -> float | None:
    """What a call needs at most beyond what was there before it; None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return (torch.cuda.max_memory_allocated(device) - before) / _MEGABYTE
    try:
        ctypes.CDLL(None).malloc_trim(0)
        # Writing 5 sets the highest resident size so far to the present one.
        Path("/proc/self/clear_refs").write_text("5")
        before = _resident("VmRSS")
        run()
        return (_resident("VmHWM") - before) / _MEGABYTE
    except (OSError, AttributeError):
        return None


def provenance(device: torch.device) -> dict[str, Any]:
    """Versions, hardware, commit, and the number of threads."""
    return {**environment_facts(device), "threads": torch.get_num_threads()}


def base_parser(description: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", type=torch.device)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch, on a CPU")
    parser.add_argument("--repeats", type=int, default=3, help="timed turns of each variant")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line of the output")
    return parser


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns of one width: the first to the left, numbers to the right."""
    texts = [[_text(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(header))]
    for first, *others in texts:
        cells = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]))
    sys.stdout.flush()


def print_json(value: Mapping[str, Any]) -> None:
    """The last line of the output."""
    print(json.dumps(value, allow_nan=False), flush=True)


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _resident(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return float(value.split()[0]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
