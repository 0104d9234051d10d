"""Actors that run units, and their pool on Ray."""

from __future__ import annotations

import logging
import time
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from edc_ray.artifacts.proof.manifest import Record
from edc_ray.artifacts.storage.store import Store
from edc_ray.cluster.resources import WorkerSize
from edc_ray.cluster.work_queue import PoolEvent
from edc_ray.config.run import RunConfig
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.stages.units.context import StageContext, choose_device
from edc_ray.stages.units.plan import Stage, WorkUnit, do_unit
from edc_ray.stages.units.provenance import environment_facts

logger = logging.getLogger(__name__)

SECONDS_UNTIL_WARNED = 30.0


class StageActor:
    """Runs units one after the other, and caches what units of one stage share."""

    _context: StageContext

    def begin_stage(self, config: RunConfig, store: Store, data: OpenedDataset, gpus: float) -> None:
        """Return once the actor runs. Nothing stays cached, because an earlier stage may have been rerun."""
        self._context = StageContext(config, store, data, choose_device(config.device, gpus=gpus))
        environment_facts(self._context.device)

    def run(self, stage: Stage, unit: WorkUnit) -> Record:
        """Run a unit and store its result."""
        return do_unit(self._context, unit, stage)


class ActorPool:
    """StageActors on Ray: the `Pool` of a `WorkQueue`, for one stage after another.

    Actors stay for the next stage: a process that imports torch starts more slowly than many units run.
    """

    def __init__(self, size: WorkerSize) -> None:
        self._gpus = size.gpus
        # No restarts by Ray: it counts them per actor, and the queue counts them per unit.
        options = {"num_cpus": size.cpus, "num_gpus": size.gpus, "max_restarts": 0, "max_task_retries": 0}
        self._actor_class: Any = ray.remote(**options)(StageActor)
        self._stage: Stage | None = None
        self._beginning: tuple[Any, ...] = ()
        self._actors: dict[int, Any] = {}
        self._spare: list[Any] = []
        self._pending: dict[ray.ObjectRef[Any], int] = {}
        self._beginnings: set[ray.ObjectRef[Any]] = set()
        self._started = 0
        self._has_answered = False

    def warm(self, count: int) -> None:
        """Start so many actors before the first stage: they import while the driver opens the data."""
        self._spare += [self._actor_class.remote() for _ in range(count)]

    def serving(self, stage: Stage, context: StageContext, data: ray.ObjectRef[Any]) -> ActorPool:
        """This pool, now for units of `stage`. The stage is sent to the actors, so it may be any value.

        `data` is a reference to `context.data` in Ray's object store.
        """
        self._stage = stage
        self._beginning = (context.config, context.store, data, self._gpus)
        return self

    def start(self) -> int:
        """Request one more actor: a spare one, else a new one."""
        actor = self._spare.pop() if self._spare else self._actor_class.remote()
        self._started += 1
        self._actors[self._started] = actor
        beginning = actor.begin_stage.remote(*self._beginning)
        self._pending[beginning] = self._started
        self._beginnings.add(beginning)
        return self._started

    def submit(self, actor: int, unit: WorkUnit) -> None:
        """Give an idle actor a unit."""
        self._pending[self._actors[actor].run.remote(self._stage, unit)] = actor

    def wait(self) -> PoolEvent:
        """The next event. Warns if no actor has answered for a long time."""
        started = time.monotonic()
        while not (done := ray.wait(list(self._pending), num_returns=1, timeout=SECONDS_UNTIL_WARNED)[0]):
            if not self._has_answered:
                free, seconds = ray.available_resources(), time.monotonic() - started
                has = f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs"
                logger.warning("no actor has started for %.0f s; the cluster has %s free", seconds, has)
        return self._event(done[0])

    def release(self) -> None:
        """Kill the busy actors and keep the idle ones for the next stage."""
        at_work = set(self._pending.values())
        for number, actor in self._actors.items():
            if number in at_work:
                ray.kill(actor)
            else:
                self._spare.append(actor)
        for state in (self._actors, self._pending, self._beginnings):
            state.clear()

    def close(self) -> None:
        """Kill all actors."""
        self.release()
        while self._spare:
            ray.kill(self._spare.pop())

    def _event(self, done: ray.ObjectRef[Any]) -> PoolEvent:
        actor, is_beginning = self._pending.pop(done), done in self._beginnings
        self._beginnings.discard(done)
        try:
            record = ray.get(done)
        except RayTaskError as error:
            return PoolEvent(actor, "raised", error=cause_of(error))
        except RayError as error:
            # Dead, unreachable or killed for memory. An unreachable actor may still run, so kill it.
            ray.kill(self._actors.pop(actor))
            return PoolEvent(actor, "lost", error=error)
        self._has_answered = True
        return PoolEvent(actor, "ready") if is_beginning else PoolEvent(actor, "done", record=record)


def cause_of(error: RayTaskError) -> Exception:
    """The exception that the task raised, with the remote traceback as a note."""
    cause = getattr(error, "cause", None)
    if not isinstance(cause, Exception) or isinstance(cause, RayTaskError):
        cause = RuntimeError(str(error))
    cause.add_note(str(error))
    return cause
