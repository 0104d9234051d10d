"""Stages made of whole trainings (observers, students), on the workers of one Ray Train run.

Starting a run takes ten seconds and more, so the units share one: each rank does whole units, or, where a unit
has `num_workers` above 1, all ranks do each unit together under DDP. A unit that was interrupted starts anew.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ray
import ray.train.torch
from ray.actor import ActorHandle
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, UserCallback
from ray.train.collective import broadcast_from_rank_zero
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from edc_ray.artifacts.layout import STAGE_FOLDERS
from edc_ray.artifacts.manifest import Record, read_record
from edc_ray.artifacts.store import Store
from edc_ray.cluster.actors import cause_of
from edc_ray.cluster.desk import UnitDesk, UnitRaisedError, portable
from edc_ray.cluster.resources import WorkerSize
from edc_ray.config.run import RunConfig as EdcRunConfig
from edc_ray.errors import ResourceError
from edc_ray.stages.context import Group, StageContext, choose_device
from edc_ray.stages.numerics import unit_numerics
from edc_ray.stages.pipeline import do_unit
from edc_ray.stages.plan import Outcome, Stage, WorkUnit

SECONDS_BETWEEN_LOOKS = 0.5


@dataclass(frozen=True)
class TrainJob:
    """What every worker of a Ray Train run is told.

    Args:
        stage: whose units they are.
        config: of the run.
        store: of the run.
        data: reference to the opened dataset in Ray's object store.
        units: by key.
        desk: hands out the units.
        size: what each worker holds.
        num_workers: ranks.
        together: all ranks do each unit together under DDP.
    """

    stage: Stage
    config: EdcRunConfig
    store: Store
    data: ray.ObjectRef[Any]
    units: Mapping[str, WorkUnit]
    desk: ActorHandle[UnitDesk]
    size: WorkerSize
    num_workers: int
    together: bool


def train_units(
    stage: Stage, context: StageContext, data: ray.ObjectRef[Any], units: list[WorkUnit], size: WorkerSize
) -> Iterator[Outcome]:
    """Do units on Ray Train; one Outcome for each, as they end."""
    cluster, ranks_per_unit = context.config.cluster, stage.num_workers(context)
    together = ranks_per_unit > 1
    num_workers = ranks_per_unit if together else min(cluster.num_actors, len(units))
    # Both stay beside the driver and hold no CPU, so that workers may hold all of them.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    desk = ray.remote(num_cpus=0, scheduling_strategy=here)(UnitDesk).remote(units, cluster.retries)
    by_key = {unit.key: unit for unit in units}
    job = TrainJob(stage, context.config, context.store, data, by_key, desk, size, num_workers, together)
    left = dict(by_key)
    with tempfile.TemporaryDirectory(prefix="edc-ray-train-", ignore_cleanup_errors=True) as scratch:
        # In a task, not in a thread of the driver: cancelling it ends the run, whatever state that is in.
        run = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=here)(_fit).remote(job, scratch)
        try:
            ended = False
            while not ended:
                ended = bool(ray.wait([run], timeout=SECONDS_BETWEEN_LOOKS)[0])
                for outcome in ray.get(desk.take.remote()):
                    del left[outcome.unit.key]
                    yield outcome
            yield from _unfinished(run, left)
        finally:
            ray.cancel(run, force=True)
            ray.kill(desk)


def _fit(job: TrainJob, scratch: str) -> None:
    # The scratch folder takes Ray's own files of the run. No checkpoint is reported, so only the controller,
    # which stays on this node, uses it, and it need not be shared.
    gpus = job.size.gpus
    resources = {"CPU": job.size.cpus} | ({"GPU": gpus} if gpus else {})
    # Each unit is blamed for at most retries + 1 deaths, and in a group for one error; the rest is spare.
    limit = len(job.units) * (job.config.cluster.retries + 1) + job.config.cluster.retries
    ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={"job": job},
        # Apart from DDP the ranks never talk to each other; nccl would refuse two of them on one GPU.
        torch_config=ray.train.torch.TorchConfig(backend=None if job.together else "gloo"),
        scaling_config=ScalingConfig(job.num_workers, use_gpu=gpus > 0, resources_per_worker=resources),
        run_config=RunConfig(
            name=job.stage.name,
            storage_path=scratch,
            failure_config=FailureConfig(max_failures=limit),
            callbacks=[_TellDesk(job.desk, job.together)],
        ),
    ).fit()


class _TellDesk(UserCallback):
    """Tells the desk which rank failed; called in Ray Train's controller, before the group starts anew."""

    def __init__(self, desk: ActorHandle[UnitDesk], together: bool) -> None:
        self._desk = desk
        self._together = together

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        errors = {rank: portable(error) for rank, error in worker_exceptions.items()}
        if self._together:
            self._desk.group_failed.remote(errors)
            return
        for rank, error in errors.items():
            self._desk.worker_failed.remote(rank, error)


def _work(told: dict[str, TrainJob]) -> None:
    """The loop of one worker."""
    job, rank = told["job"], ray.train.get_context().get_world_rank()
    device = choose_device(job.config.device, gpus=job.size.gpus)
    if device.type == "cuda":
        device = ray.train.torch.get_device()  # all GPUs of the node are visible here; this one is the rank's
    group = Group(rank, job.num_workers) if job.together else Group()
    context = StageContext(job.config, job.store, ray.get(job.data), device, group)
    while (key := _next_key(job, rank)) is not None:
        unit = job.units[key]
        try:
            record = _do_with_group(context, unit, job.stage) if job.together else _do_alone(context, unit, job.stage)
        except Exception as error:
            if job.together:
                # The other ranks wait for this one in a collective call; only a new group frees them.
                raise UnitRaisedError(portable(error)) from error
            ray.get(job.desk.finish.remote(key, None, portable(error)))
            continue
        if rank == 0 or not job.together:
            ray.get(job.desk.finish.remote(key, record))


def _next_key(job: TrainJob, rank: int) -> str | None:
    if not job.together:
        return ray.get(job.desk.next_unit.remote(rank))
    return broadcast_from_rank_zero(ray.get(job.desk.next_unit.remote(0)) if rank == 0 else None)


def _do_alone(context: StageContext, unit: WorkUnit, stage: Stage) -> Record:
    # A worker of an earlier group may have died between writing the record and saying so.
    record = read_record(context.store, STAGE_FOLDERS[stage.name], unit.key, unit.fingerprint)
    return record or do_unit(context, unit, stage)


def _do_with_group(context: StageContext, unit: WorkUnit, stage: Stage) -> Record | None:
    """Every rank computes, the first one writes."""
    if context.group.rank == 0:
        return do_unit(context, unit, stage)
    with unit_numerics(context):
        stage.run_unit(context, unit)
    return None


def _unfinished(run: ray.ObjectRef[Any], left: Mapping[str, WorkUnit]) -> Iterator[Outcome]:
    """Outcomes of the units that a run left behind when it gave up."""
    if not left:
        return
    reason: Exception | None = None
    try:
        ray.get(run)
    except ray.exceptions.RayTaskError as error:
        reason = cause_of(error)
    except ray.exceptions.RayError as error:
        reason = error
    for unit in left.values():
        error = ResourceError(
            f"{unit.stage}: the Ray Train run ended before unit '{unit.title}' was done",
            found=f"{type(reason).__name__}: {str(reason).strip().splitlines()[-1]}" if reason else "no reason given",
            next="see the worker logs of Ray; the same command again does what is left",
        )
        yield Outcome(unit, error=error)
