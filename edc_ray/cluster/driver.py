"""Runs the units of the pipeline on Ray: on actors, or, where processes share a unit, on Ray Train."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import ray

from edc_ray.cluster.actors import ActorPool
from edc_ray.cluster.resources import WorkerSize, check_cluster, num_actors, worker_device
from edc_ray.cluster.session import alive_nodes, failures_told, ray_session
from edc_ray.cluster.work_queue import WorkQueue
from edc_ray.config.run import RunConfig
from edc_ray.stages.side_by_side.execution import most_trainings, trainings_at_once
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.plan import Outcome, Stage, WorkUnit

# A run with few missing units needs no more, and others start when a stage has units for them.
_WARM_ACTORS = 4
_SECONDS_BETWEEN_LOOKS = 10.0


@contextmanager
def ray_executor(config: RunConfig) -> Iterator[RayExecutor]:
    """Ray within the block, and the `execute` for `run_pipeline`. All that was started ends with the block.

    Raises:
        ConfigError: an address or a storage that does not work with Ray.
        ResourceError: no cluster, or too small a cluster for the config.
    """
    with ray_session(config.cluster.address):
        nodes = alive_nodes()
        size = check_cluster(config, nodes)
        device_type = worker_device(config, size)
        trainings = most_trainings(config, device_type)
        executor = RayExecutor(size, _ActorsNow(config, size), device_type, trainings)
        if not config.cluster.autoscaling:  # an idle actor there would ask for a machine
            executor.warm(_WARM_ACTORS)
        try:
            yield executor
        finally:
            executor.close()


class RayExecutor:
    """Runs the units of all stages on one pool of at most `num_actors` actors, and DDP on Ray Train.

    The run is opened with the workers' `device_type`, because the driver's machine may have no GPU.
    """

    def __init__(
        self, size: WorkerSize, num_actors: Callable[[], int], device_type: str, trainings: int = 1
    ) -> None:
        self.device_type = device_type
        self._num_actors = num_actors
        self._size = size
        self._shared: tuple[object, ray.ObjectRef[Any]] | None = None
        self._pool = ActorPool(size, trainings)

    def warm(self, count: int) -> None:
        """Start some actors, so that they import while the driver opens the data."""
        self._pool.warm(min(count, self._num_actors()))

    def __call__(self, stage: Stage, context: StageContext, units: list[WorkUnit]) -> Iterable[Outcome]:
        """One Outcome per unit, in the order in which they end."""
        cluster = context.config.cluster
        if self._shared is None or self._shared[0] is not context.data:
            # Stored once. All workers of a node read it without a copy.
            self._shared = (context.data, ray.put(context.data))
        data = self._shared[1]
        if stage.num_workers(context.config) > 1:
            from edc_ray.cluster.train_units import train_units  # most runs need no process group

            self.close()  # frees the CPUs and GPUs of the actors for the workers of Ray Train
            return _told(train_units(stage, context, data, units, self._size))
        slots = trainings_at_once(stage, context.config, self.device_type)
        queue = WorkQueue(
            self._pool.serving(stage, context, data, slots),
            units,
            num_actors=self._num_actors,
            min_actors=cluster.min_actors,
            retries=cluster.retries,
            slots=slots,
        )
        return _told(queue.outcomes())

    def close(self) -> None:
        """Kill the actors that wait for the next stage."""
        self._pool.close()


class _ActorsNow:
    """How many actors the cluster holds as it is now: nodes come and go."""

    def __init__(self, config: RunConfig, size: WorkerSize) -> None:
        self._config, self._size = config, size
        self._looked, self._found = -_SECONDS_BETWEEN_LOOKS, 0

    def __call__(self) -> int:
        if time.monotonic() - self._looked >= _SECONDS_BETWEEN_LOOKS:
            self._looked = time.monotonic()
            self._found = num_actors(self._config, alive_nodes(), self._size)
        return self._found


def _told(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    with failures_told():
        yield from outcomes
