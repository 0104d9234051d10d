"""Actors that do the units of one stage, and the pool of them on Ray."""

from __future__ import annotations

import logging
import time
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from edc_ray.artifacts.manifest import Record
from edc_ray.artifacts.store import Store
from edc_ray.cluster.resources import WorkerSize
from edc_ray.cluster.work_queue import PoolEvent
from edc_ray.config.run import RunConfig
from edc_ray.data.sources import OpenedDataset
from edc_ray.stages.context import StageContext, choose_device
from edc_ray.stages.pipeline import do_unit
from edc_ray.stages.plan import Stage, WorkUnit

logger = logging.getLogger(__name__)

SECONDS_UNTIL_WARNED = 30.0


class StageActor:
    """Does units of one stage, one after the other, and keeps between them what they share."""

    def __init__(
        self, stage: Stage, config: RunConfig, store: Store, data: OpenedDataset, gpus: float
    ) -> None:
        self._stage = stage
        self._context = StageContext(config, store, data, choose_device(config.device, gpus=gpus))

    def ping(self) -> None:
        """Answers once the actor runs."""

    def run(self, unit: WorkUnit) -> Record:
        """Do a unit and store its result."""
        return do_unit(self._context, unit, self._stage)


class ActorPool:
    """StageActors on Ray; the `Pool` of a `WorkQueue`.

    Args:
        stage: may be any value; it travels to the actors.
        context: the driver's.
        data: reference to `context.data` in Ray's object store.
        size: what each actor holds.
    """

    def __init__(
        self, stage: Stage, context: StageContext, data: ray.ObjectRef[Any], size: WorkerSize
    ) -> None:
        self._arguments = (stage, context.config, context.store, data, size.gpus)
        # No restarts by Ray: those are counted by actor, and the queue must count by unit.
        self._actor_class = ray.remote(
            num_cpus=size.cpus, num_gpus=size.gpus, max_restarts=0, max_task_retries=0
        )(StageActor)  # fmt: skip
        self._actors: dict[int, Any] = {}
        self._pending: dict[ray.ObjectRef[Any], int] = {}
        self._pings: set[ray.ObjectRef[Any]] = set()
        self._started = 0
        self._has_answered = False

    def start(self) -> int:
        """Ask for one more actor."""
        actor = self._actor_class.remote(*self._arguments)
        self._started += 1
        self._actors[self._started] = actor
        ping = actor.ping.remote()
        self._pending[ping] = self._started
        self._pings.add(ping)
        return self._started

    def submit(self, actor: int, unit: WorkUnit) -> None:
        """Give an idle actor a unit."""
        self._pending[self._actors[actor].run.remote(unit)] = actor

    def wait(self) -> PoolEvent:
        """The next event; warns where no actor has answered for long."""
        started = time.monotonic()
        while not (done := ray.wait(list(self._pending), num_returns=1, timeout=SECONDS_UNTIL_WARNED)[0]):
            if not self._has_answered:
                self._warn(time.monotonic() - started)
        return self._event(done[0])

    def close(self) -> None:
        """End all actors, whatever they do."""
        for actor in self._actors.values():
            ray.kill(actor)
        self._actors.clear()
        self._pending.clear()

    def _event(self, done: ray.ObjectRef[Any]) -> PoolEvent:
        actor, is_ping = self._pending.pop(done), done in self._pings
        self._pings.discard(done)
        try:
            record = ray.get(done)
        except RayTaskError as error:
            return PoolEvent(actor, "raised", error=cause_of(error))
        except RayError as error:
            # Dead, unreachable or killed for memory. An unreachable one may still run: end it for certain.
            ray.kill(self._actors.pop(actor))
            return PoolEvent(actor, "lost", error=error)
        self._has_answered = True
        return PoolEvent(actor, "ready") if is_ping else PoolEvent(actor, "done", record=record)

    def _warn(self, seconds: float) -> None:
        free = ray.available_resources()
        has = f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs"
        logger.warning("no actor has started for %.0f s; the cluster has %s free", seconds, has)


def cause_of(error: RayTaskError) -> Exception:
    """What the task raised, with the remote traceback as a note."""
    cause = getattr(error, "cause", None)
    if not isinstance(cause, Exception) or isinstance(cause, RayTaskError):
        cause = RuntimeError(str(error))
    cause.add_note(str(error))
    return cause
