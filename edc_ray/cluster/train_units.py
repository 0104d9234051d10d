"""The driver's side of Ray Train: units that several processes train together."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.train import FailureConfig, ScalingConfig
from ray.train import RunConfig as TrainConfig
from ray.util.placement_group import remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from edc_ray.cluster.actors import cause_of
from edc_ray.cluster.resources import WorkerSize
from edc_ray.cluster.train_run import TrainRun
from edc_ray.cluster.train_worker import TrainJob
from edc_ray.cluster.work_queue import brief
from edc_ray.errors import ResourceError
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.plan import Outcome, Stage, WorkUnit

SECONDS_BETWEEN_LOOKS = 0.5


def train_units(
    stage: Stage,
    context: StageContext,
    data: ray.ObjectRef[Any],
    units: list[WorkUnit],
    size: WorkerSize,
) -> Iterator[Outcome]:
    """Run units one after the other on Ray Train, each by all ranks together under DDP; one Outcome per unit.

    Starting a run takes ten seconds or more, so the units share one. An interrupted unit restarts. `data` is
    a reference to `context.data` in Ray's object store.
    """
    left, retries = {unit.key: unit for unit in units}, context.config.cluster.retries
    group_size = stage.num_workers(context.config)
    job = TrainJob(stage, context.config, context.store, data, dict(left), size.gpus, group_size)
    workers = ScalingConfig(
        num_workers=group_size,
        use_gpu=size.gpus > 0,
        resources_per_worker={"CPU": size.cpus} | ({"GPU": size.gpus} if size.gpus else {}),
    )
    # A unit causes at most retries + 1 deaths, and in a group one error. The rest is a margin.
    failures = FailureConfig(max_failures=len(units) * (retries + 1) + retries)
    with tempfile.TemporaryDirectory(prefix="edc-ray-train-", ignore_cleanup_errors=True) as scratch:
        # On the driver's node and without a CPU, so that the workers can have all CPUs.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor: Any = ray.remote(concurrency_groups={"run": 1})(TrainRun)  # type: ignore[call-overload]
        desk = actor.options(num_cpus=0, scheduling_strategy=here).remote(units, retries)
        # No checkpoint is reported, so only the controller on this node uses the scratch folder, and the
        # nodes need not share it.
        config = TrainConfig(name=stage.name, storage_path=scratch, failure_config=failures)
        run = desk.fit.remote([ray.put(job)], workers, config)
        has_ended = False
        try:
            while not has_ended:
                has_ended = bool(ray.wait([run], timeout=SECONDS_BETWEEN_LOOKS)[0])
                for outcome in ray.get(desk.take.remote()):
                    del left[outcome.unit.key]
                    yield outcome
            ray.get(run)
            yield from _unfinished(None, left)
        except RayTaskError as error:
            yield from _unfinished(cause_of(error), left)
        except RayActorError as error:  # the desk died
            yield from _unfinished(error, left)
        finally:
            _end(desk, early=not has_ended)


def _end(desk: Any, *, early: bool) -> None:
    # A run that is stopped early ends with the desk, but Ray keeps its resources reserved while this driver
    # lives. A finished run has freed them.
    workplace: Any = None
    if early:
        with contextlib.suppress(RayActorError):
            workplace = ray.get(desk.workplace.remote())
    ray.kill(desk)
    if workplace is not None:
        remove_placement_group(workplace)


def _unfinished(reason: Exception | None, left: Mapping[str, WorkUnit]) -> Iterator[Outcome]:
    """Outcomes of the units that a run left when it gave up."""
    for unit in left.values():
        error = ResourceError(
            f"{unit.stage}: the Ray Train run ended before unit '{unit.title}'",
            found=brief(reason),
            next="see the worker logs of Ray, then run the same command again: it does the remaining units",
        )
        yield Outcome(unit, error=error)
