"""Where the units of a run are done, if the config does not say: in this process, or by workers of Ray.

The bytes are the same. Workers take seconds to start and memory to keep, so they are started where they save
more: for several GPUs, and on CPUs for more than a minute or two of work. docs/PERFORMANCE.md has what
benchmarks/bench_start.py measured.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from edc_ray.config.run import RunConfig, StageName
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.models.flops import forward_flops
from edc_ray.stages.pipeline import STAGES

_CPU_LIMIT = "/sys/fs/cgroup/cpu.max"
FLOPS_OF_A_CORE = 8e10
"""Per second, in float32: between what small and wide networks reach on one core of a server."""
SECONDS_OF_ONE_WORKER = 60.0
"""Estimated work that one worker does well: two workers would save less than half a minute of it."""


@dataclass(frozen=True)
class Machine:
    """CPUs and GPUs that this process may use."""

    cpus: float
    gpus: int

    @classmethod
    def this(cls) -> Machine:
        affinity = getattr(os, "sched_getaffinity", None)
        cpus = len(affinity(0)) if affinity else os.cpu_count() or 1
        return cls(min(cpus, _cpus_of_container()), torch.cuda.device_count())


def _cpus_of_container() -> float:
    """CPUs that a container may use at once, rounded down, at least 1; infinite without a limit."""
    try:
        with open(_CPU_LIMIT, encoding="ascii") as file:
            quota, period = file.read(100).split()
        return max(1, int(quota) // int(period))
    except (OSError, ValueError):  # no such limit: "max", another version of cgroups, another system
        return math.inf


@dataclass(frozen=True)
class Place:
    """Where units are done, and a line that tells it; no line if the config says it itself."""

    on_ray: bool
    line: str | None = None


def in_ray_job() -> bool:
    """Whether this process was started by `ray job submit`."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def sweep_on_ray(config: RunConfig) -> bool:
    """Whether trials run on Ray: if the config says so, in a Ray job, or several at once."""
    if config.cluster.address is not None:
        return config.cluster.address != "none"
    return in_ray_job() or config.sweep.max_concurrent > 1


def chosen_place(
    config: RunConfig, data: OpenedDataset, stages: Iterable[StageName], machine: Machine
) -> Place:
    """Where the units of stages are done. `config.cluster.address` decides unless it is None."""
    if config.cluster.address is not None:
        return Place(on_ray=config.cluster.address != "none")
    why = why_ray(config, machine) or _why_ray_on_cpus(config, data, stages, machine)
    if why:
        return Place(True, f"on Ray, because of {why} (cluster.address=none: without Ray)")
    return Place(False, "in this process: one worker does it well (cluster.address=local: on Ray)")


def why_ray(config: RunConfig, machine: Machine) -> str | None:
    """What in the config or the machine needs workers of Ray, whatever the data; None if nothing does."""
    cluster = config.cluster
    if in_ray_job():
        return "the Ray job"
    counts = {
        "cluster.num_actors": cluster.num_actors or 1,
        "cluster.min_actors": cluster.min_actors,
        **{f"{name}.num_workers": stage.num_workers(config) for name, stage in STAGES.items()},
    }
    if several := [f"{name}={count}" for name, count in counts.items() if count > 1]:
        return several[0]
    if cluster.autoscaling:
        return "cluster.autoscaling=true"
    if not _may_spread(config):
        return None
    if config.device in ("auto", "cuda") and _workers_on_gpus(config, machine) > 1:
        return (
            f"{machine.gpus} GPUs" if machine.gpus > 1 else f"cluster.gpus_per_actor={cluster.gpus_per_actor}"
        )
    return None


def _why_ray_on_cpus(
    config: RunConfig, data: OpenedDataset, stages: Iterable[StageName], machine: Machine
) -> str | None:
    """Why workers on CPUs are worth their start; None if one worker does the stages well."""
    no_gpu = config.cluster.gpus_per_actor == 0 or not _has_gpu(machine)
    on_cpu = config.device == "cpu" or (config.device == "auto" and no_gpu)
    workers = int(machine.cpus / config.cluster.cpus_per_actor + 1e-9)
    if not on_cpu or workers < 2 or not _may_spread(config):
        return None
    seconds = seconds_of_one_worker(config, data, stages)
    return f"about {_shown(seconds)} of work for one CPU" if seconds > SECONDS_OF_ONE_WORKER else None


def seconds_of_one_worker(config: RunConfig, data: OpenedDataset, stages: Iterable[StageName]) -> float:
    """A rough estimate of the work of stages, in seconds of one CPU core. Units that are done count."""
    passes = Counter[str]()
    for stage in stages:
        passes.update(STAGES[stage].passes(config, data))
    flops = {name: forward_flops(name, **data.train.network_shape) for name in passes}
    return sum(count * flops[name] for name, count in passes.items()) / FLOPS_OF_A_CORE


def _workers_on_gpus(config: RunConfig, machine: Machine) -> int:
    each = 1.0 if config.cluster.gpus_per_actor is None else config.cluster.gpus_per_actor
    if each == 0:
        return 0
    return machine.gpus * int(1 / each + 1e-9) if each < 1 else int(machine.gpus / each)


def _may_spread(config: RunConfig) -> bool:
    """Whether a run may have several workers: it does not ask for one, and they could read its storage."""
    return config.cluster.num_actors is None and not (config.storage.root or "").startswith("memory://")


def _has_gpu(machine: Machine) -> bool:
    return machine.gpus > 0 or torch.backends.mps.is_available()


def _shown(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:.0f} hours"
