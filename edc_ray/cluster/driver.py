"""Runs the units of the pipeline on Ray."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import ray

from edc_ray.cluster.actors import ActorPool
from edc_ray.cluster.resources import WorkerSize, check_cluster, num_actors, worker_device
from edc_ray.cluster.session import alive_nodes, ray_session
from edc_ray.cluster.train import train_units
from edc_ray.cluster.work_queue import WorkQueue
from edc_ray.config.run import RunConfig
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.plan import Outcome, Stage, WorkUnit


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
        executor = RayExecutor(size, num_actors(config, nodes, size), worker_device(config, size))
        try:
            yield executor
        finally:
            executor.close()


class RayExecutor:
    """Runs the units of a stage on actors, at most `num_actors`, or on Ray Train, as the stage says.

    The run is opened with the workers' `device_type`, because the driver's machine may have no GPU.
    """

    def __init__(self, size: WorkerSize, num_actors: int, device_type: str) -> None:
        self.device_type = device_type
        self._num_actors = num_actors
        self._size = size
        self._shared: tuple[object, ray.ObjectRef[Any]] | None = None
        self._pool: ActorPool | None = None

    def __call__(self, stage: Stage, context: StageContext, units: list[WorkUnit]) -> Iterable[Outcome]:
        """One Outcome per unit, in the order in which they end."""
        cluster = context.config.cluster
        if self._shared is None or self._shared[0] is not context.data:
            # Stored once. All workers of a node read it without a copy.
            self._shared = (context.data, ray.put(context.data))
        data = self._shared[1]
        if stage.spread == "train":
            self.close()  # frees the CPUs and GPUs of the actors for the workers of Ray Train
            return train_units(stage, context, data, units, self._size, self._num_actors)
        if self._pool is None or self._pool.context is not context:
            self.close()
            self._pool = ActorPool(context, data, self._size)
        queue = WorkQueue(
            self._pool.serving(stage),
            units,
            num_actors=self._num_actors,
            min_actors=cluster.min_actors,
            retries=cluster.retries,
        )
        return queue.outcomes()

    def close(self) -> None:
        """Kill the actors that wait for the next stage."""
        if self._pool is not None:
            self._pool.close()
        self._pool = None
