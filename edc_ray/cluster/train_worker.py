"""The loop of one Ray Train worker: its part of each unit under DDP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
from ray.train.collective import broadcast_from_rank_zero

from edc_ray.artifacts.proof.manifest import Record
from edc_ray.artifacts.storage.store import Store
from edc_ray.cluster.work_queue import UnitRaisedError, portable
from edc_ray.config.run import RunConfig
from edc_ray.stages.units.context import Group, StageContext, choose_device
from edc_ray.stages.units.numerics import unit_numerics
from edc_ray.stages.units.plan import Stage, WorkUnit, do_unit
from edc_ray.stages.units.provenance import environment_facts


@dataclass(frozen=True)
class TrainJob:
    """What every worker of a Ray Train run needs: the run, its units by key, and how it shares them.

    Args:
        data: reference to the opened dataset in Ray's object store.
        gpus: of each worker.
        group_size: ranks that run each unit together.
    """

    stage: Stage
    config: RunConfig
    store: Store
    data: ray.ObjectRef[Any]
    units: Mapping[str, WorkUnit]
    gpus: float
    group_size: int


def work(job: TrainJob, desk: Any) -> None:
    """Run units from the desk until it has none left, on every rank."""
    rank = ray.train.get_context().get_world_rank()
    if rank == 0:
        ray.get(desk.set_workplace.remote(ray.util.get_current_placement_group()))
    device = choose_device(job.config.device, gpus=job.gpus)
    if device.type == "cuda":
        from ray.train.torch import get_device  # takes seconds to import; the driver does not need it

        device = get_device()  # of this rank: all GPUs of the node are visible here
    environment_facts(device)
    context = StageContext(job.config, job.store, ray.get(job.data), device, Group(rank, job.group_size))
    while (key := _next_unit(desk, rank)) is not None:
        try:
            record = _do(context, job.units[key], job.stage)
        except Exception as raised:
            # The other ranks wait for this one in a collective call. Only a restart frees them.
            raise UnitRaisedError(portable(raised)) from raised
        if record:
            ray.get(desk.finish.remote(key, record))


def _next_unit(desk: Any, rank: int) -> str | None:
    key: Any = ray.get(desk.next_unit.remote()) if rank == 0 else None
    return broadcast_from_rank_zero(key)


def _do(context: StageContext, unit: WorkUnit, stage: Stage) -> Record | None:
    if context.group.rank == 0:
        return do_unit(context, unit, stage)
    # Every rank computes. Only the first one writes.
    with unit_numerics(context.config, context.device):
        stage.run_unit(context, unit)
    return None
