"""What the benchmarks share: interleaved timing, peak memory, tables, provenance, the JSON line, the record.

A benchmark does not run one variant to the end and then the next, because other load on the machine would
slow down only one of them. It runs the variants in turns. It reports the minimum (what the code costs) and
the median (what it cost here and now). `--clock cpu` counts processor time instead, for a busy machine.

`--precision` and `--compile`, where a benchmark takes them, apply to our code, which then computes as in
such a run. The code that it is compared with (plain, reference) stays float32 without TF32 and without a
compiler.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch
from records import Record
from torch import nn

from edc_ray.config.load import load_recipe
from edc_ray.config.run import Precision, RunConfig
from edc_ray.core.layers.network_numerics import NetworkNumerics
from edc_ray.errors import ConfigError
from edc_ray.kernels.cpu.fused_network import Wanted, fused_network, trial_images
from edc_ray.kernels.cpu.statistics import kernels_for
from edc_ray.stages.units.numerics import Compile, check_numerics, chosen_precision, network_numerics, placed
from edc_ray.stages.units.provenance import environment_facts

Out = TypeVar("Out")
_MEGABYTE = 1e6
_UNTIMED = {"graphs": 3, "auto": 3}
"""Calls before the first that is timed: a graph is captured in the second or third."""


@dataclass
class _Asked:
    """What the command line asks of the harness. It is the same for everything that a benchmark measures."""

    clock: str = "wall"
    record: Record | None = None
    numerics: dict[str, str] = field(default_factory=dict)


_asked = _Asked()


@dataclass(frozen=True)
class Timing:
    """Seconds of one variant over all turns."""

    minimum: float
    median: float


class BenchParser(argparse.ArgumentParser):
    """The options that every benchmark has. Parsing them sets the harness."""

    def __init__(self, description: str | None) -> None:
        super().__init__(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        self._short: dict[str, Any] = {}
        self._takes_numerics = False
        add = self.add_argument
        add("--device", default="cpu", type=torch.device)
        add("--threads", type=int, default=torch.get_num_threads(), help="of torch, on a CPU")
        add("--repeats", type=int, default=3, help="timed turns of each variant")
        add(
            "--clock",
            choices=["wall", "cpu"],
            default="wall",
            help="cpu: time of the processor, of all threads",
        )
        add("--short", action="store_true", help="the form of `make bench`: smaller, if the whole takes long")
        add("--json", action="store_true", help="one JSON object as the last line of the output")
        add(
            "--record", metavar="NAME", help="keep the object and the tables as results/NAME.json and NAME.md"
        )
        add("--note", default="", help="what a reader of the record must know of how it was measured")
        add("--allow-dirty", action="store_true", help="also record changed code")

    def set_short(self, **values: Any) -> None:
        """What --short sets unless the command line says otherwise."""
        self._short = values

    def add_numerics(self, *, compiled: bool = True) -> None:
        """--precision and, where the stage compiles its networks at all, --compile: of ours."""
        self._takes_numerics = True
        self.add_argument(
            "--precision",
            default="auto",
            choices=get_args(Precision),
            help="of ours; auto: as a run has it on the device",
        )
        if compiled:
            self.add_argument("--compile", default="none", choices=get_args(Compile), help="of ours")
        else:
            self.set_defaults(compile="none")

    def parse_args(self, args: Any = None, namespace: Any = None) -> argparse.Namespace:
        """See ArgumentParser; refuses, before any work, to record code that differs from its commit."""
        found = super().parse_args(args, namespace)
        if found.short:
            self.set_defaults(**self._short)
            found = super().parse_args(args, namespace)
        if found.clock == "cpu" and found.device.type != "cpu":
            self.error("--clock cpu does not see what another device does")
        torch.set_num_threads(found.threads)
        _asked.clock, _asked.record, _asked.numerics = found.clock, None, {}
        if self._takes_numerics:
            self._choose_numerics(found)
        if found.record:
            try:
                title = (self.description or "").partition("\n")[0]
                _asked.record = Record.begun(
                    found.record, title, provenance(found.device), found.note, allow_dirty=found.allow_dirty
                )
            except ValueError as error:
                self.error(str(error))
            found.json = True
        return found

    def _choose_numerics(self, found: argparse.Namespace) -> None:
        config = _config_of(found)
        try:
            check_numerics(config, found.device)
        except ConfigError as error:
            self.error(str(error))
        found.precision = chosen_precision(config, found.device, None)
        _asked.numerics = {"precision": found.precision, "compile": found.compile}
        _allow_tf32(False)


def base_parser(description: str | None) -> BenchParser:
    """The options that every benchmark has."""
    return BenchParser(description)


def chosen_numerics(options: argparse.Namespace, *, compiled: bool = True) -> NetworkNumerics:
    """How a stage's networks compute with `precision` and `compile` of the command line.

    Args:
        options: as parsed, with a precision that is not auto.
        compiled: whether the stage compiles its networks at all.
    """
    return network_numerics(_config_of(options), options.device, compiled=compiled)


def chosen_network(network: nn.Module, options: argparse.Namespace) -> nn.Module:
    """The network itself, on the device, its weights as the precision of the command line wants them."""
    return placed(network, _config_of(options), options.device)


def chosen_fused(
    network: nn.Module, wanted: Wanted, options: argparse.Namespace, image_size: int
) -> nn.Module:
    """A frozen network as a stage computes it that needs these results.

    Args:
        network: of `chosen_network`.
        wanted: as in `fused_network`.
        options: as parsed.
        image_size: of the images that will come.
    """
    # Statistics, the stage that needs inputs, never compiles.
    numerics = chosen_numerics(options, compiled=wanted != "inputs")
    kernels = kernels_for(options.device, numerics.memory_format)
    images = trial_images(3, image_size, options.device)
    return fused_network(network, wanted, kernels, numerics, images)


def in_chosen_precision(run: Callable[[], Out], options: argparse.Namespace) -> Callable[[], Out]:
    """A call that alone may round the factors of products to TF32, if that is the precision."""

    def chosen() -> Out:
        with tf32(options.precision == "tf32"):
            return run()

    return chosen


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether CUDA may round the factors of products and convolutions, as a unit of a run sets it."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    _allow_tf32(allowed)
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _allow_tf32(allowed: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


def _config_of(options: argparse.Namespace) -> RunConfig:
    return load_recipe("imagenet10", [f"precision={options.precision}", f"compile={options.compile}"])


def interleaved(
    variants: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, Timing]:
    """Run each variant untimed until it is warm, then all of them in turns, `repeats` times."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(-_UNTIMED.get(_asked.numerics.get("compile", ""), 1), repeats):
        for name, run in variants.items():
            spent = timed(run, device)
            if turn >= 0:
                seconds[name].append(spent)
    if _asked.record is not None:
        _asked.record.raw_seconds.append(seconds)
    return {name: Timing(min(each), statistics.median(each)) for name, each in seconds.items()}


def timed(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call until the device is done with it, by the chosen clock."""
    _wait(device)
    begun = now()
    run()
    _wait(device)
    return now() - begun


def now() -> float:
    """The chosen clock."""
    return time.perf_counter() if _asked.clock == "wall" else cpu_seconds()


def cpu_seconds() -> float:
    """Processor time of this process and of those that it started and that still run."""
    children = (child.pid for child in multiprocessing.active_children())
    return time.process_time() + sum(_cpu_seconds_of(pid) for pid in children if pid is not None)


def _cpu_seconds_of(pid: int) -> float:
    # Linux's number of the clock of another process, as clock_getcpuclockid gives it.
    return time.clock_gettime((~pid << 3) | 2)


def peak_megabytes(run: Callable[[], object], device: torch.device) -> float | None:
    """Most memory of a call beyond what was in use before it; None if the system does not tell."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / _MEGABYTE
    try:
        ctypes.CDLL(None).malloc_trim(0)
        # Writing 5 sets the highest resident size so far to the present one.
        Path("/proc/self/clear_refs").write_text("5")
        before = _resident("VmRSS")
    except (OSError, AttributeError):
        run()
        return None
    run()
    return (_resident("VmHWM") - before) / _MEGABYTE


def provenance(device: torch.device) -> dict[str, Any]:
    """Versions, hardware, commit, the number of threads, the clock, and how networks of ours compute."""
    facts = {**environment_facts(device), "threads": torch.get_num_threads(), "clock": _asked.clock}
    return facts | _asked.numerics


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns of one width: the first left-aligned, numbers right-aligned."""
    texts = [[_text(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in texts) for column in range(len(header))]
    for first, *others in texts:
        cells = [text.rjust(width) for text, width in zip(others, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *cells]))
    sys.stdout.flush()
    if _asked.record is not None:
        _asked.record.add_table(texts)


def print_medians(first: str, numbers: Mapping[str, Mapping[str, Any]], variants: Sequence[str]) -> None:
    """The medians beside the minima of another table.

    Args:
        first: what the rows are.
        numbers: row -> fields, among them VARIANT_median_s.
        variants: left out if no row has them.
    """
    there = [each for each in variants if any(f"{each}_median_s" in row for row in numbers.values())]
    rows = [[name, *(row.get(f"{each}_median_s") for each in there)] for name, row in numbers.items()]
    print_table([f"{first}, medians", *(f"{each} s" for each in there)], rows)


def print_note(text: str) -> None:
    """A sentence about what was measured; the record keeps it."""
    print(text, flush=True)
    if _asked.record is not None:
        _asked.record.add_text(text)


def print_json(value: Mapping[str, Any]) -> None:
    """The last line of the output; the record is written with it."""
    if _asked.record is not None:
        for path in _asked.record.write(value):
            print(path)
    print(json.dumps(value, allow_nan=False), flush=True)


def print_facts(facts: Mapping[str, Any]) -> None:
    """Versions and sizes in one line."""
    print(" ".join(f"{name}={value}" for name, value in facts.items()))


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
