"""Actors that run units, and their pool on Ray."""

from __future__ import annotations

import logging
import math
import socket
import time
from dataclasses import replace
from functools import lru_cache
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayError, RayTaskError

from edc_ray.artifacts.proof.manifest import Record
from edc_ray.artifacts.storage.store import Store
from edc_ray.cluster.resources import WorkerSize
from edc_ray.cluster.work_queue import PoolEvent
from edc_ray.config.run import RunConfig
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.errors import ArtifactError, DeviceError, ResourceError
from edc_ray.stages.side_by_side.execution import SideBySide
from edc_ray.stages.units.context import StageContext, choose_device
from edc_ray.stages.units.plan import Stage, WorkUnit

logger = logging.getLogger(__name__)

SECONDS_UNTIL_WARNED = 30.0
_TRAININGS = "trainings"
_SECONDS_BETWEEN_LOOKS = 5.0
_SECONDS_FOR_A_REASON = 30.0
# How Ray words the death of an actor whose node died.
_OF_NODES = ("its node has died", "node was preempted", "node is draining", "node was terminated")


class StageActor:
    """Runs units, and caches what units of one stage share."""

    _units: SideBySide

    def begin_stage(
        self, stage: Stage, config: RunConfig, store: Store, data: OpenedDataset, gpus: float
    ) -> tuple[str, str]:
        """Return once the actor runs: the node, by its id, and the place in words.

        Nothing stays cached, because an earlier stage may have been rerun.
        """
        context = StageContext(config, store, data, choose_device(config.device, gpus=gpus))
        self._units = SideBySide(stage, context)
        here = ray.get_runtime_context()
        held = ", ".join(here.get_accelerator_ids().get("GPU", ()))
        return here.get_node_id(), socket.gethostname() + (f", GPU {held}" if held else "")

    def run(self, unit: WorkUnit) -> Record:
        """Run a unit and store its result."""
        return self._units.do(unit)


class ActorPool:
    """StageActors on Ray: the `Pool` of a `WorkQueue`, for one stage after another.

    Actors stay for the next stage: a process that imports torch starts more slowly than many units run.

    Args:
        size: of an actor.
        trainings: units that an actor may do at the same time, in stages that train.
    """

    def __init__(self, size: WorkerSize, trainings: int = 1) -> None:
        self._size, self._gpus = size, size.gpus
        # No restarts by Ray: it counts them per actor, and the queue counts them per unit.
        options = {"num_cpus": size.cpus, "num_gpus": size.gpus, "max_restarts": 0, "max_task_retries": 0}
        if trainings > 1:  # only then does Ray call methods in other threads than the main one
            options["concurrency_groups"] = {_TRAININGS: trainings}
        self._actor_class: Any = ray.remote(**options)(StageActor)
        self._call: dict[str, str] = {}
        self._beginning: tuple[Any, ...] = ()
        self._actors: dict[int, Any] = {}
        self._nodes: dict[int, str] = {}  # of each actor that is ready
        self._spare: list[Any] = []
        self._pending: dict[ray.ObjectRef[Any], tuple[int, str]] = {}  # actor, unit; "": the beginning
        self._started = 0
        self._seconds_waited, self._longest_wait = 0.0, math.inf
        self._store: Store | None = None

    def warm(self, count: int) -> None:
        """Start so many actors before the first stage: they import while the driver opens the data."""
        self._spare += [self._actor_class.remote() for _ in range(count)]

    def serving(
        self, stage: Stage, context: StageContext, data: ray.ObjectRef[Any], slots: int = 1
    ) -> ActorPool:
        """This pool, now for units of `stage`. The stage is sent to the actors, so it may be any value.

        `data` is a reference to `context.data` in Ray's object store. `slots` are units that an actor does at
        the same time.
        """
        self._call = {"concurrency_group": _TRAININGS} if slots > 1 else {}
        self._longest_wait = context.config.cluster.wait_seconds
        self._store = replace(context.store, patience=0.0)
        self._beginning = (stage, context.config, context.store, data, self._gpus)
        return self

    def start(self) -> int:
        """Request one more actor: a spare one, else a new one."""
        actor = self._spare.pop() if self._spare else self._actor_class.remote()
        self._started += 1
        self._actors[self._started] = actor
        self._pending[actor.begin_stage.remote(*self._beginning)] = self._started, ""
        return self._started

    def submit(self, actor: int, unit: WorkUnit) -> None:
        """Give an actor a unit."""
        run = self._actors[actor].run.options(**self._call)
        self._pending[run.remote(unit)] = actor, unit.key

    def wait(self) -> PoolEvent:
        """The next event. If it takes long, warns that work waits for actors, or that storage fails.

        Raises:
            ResourceError: work waited for an actor for `cluster.wait_seconds`.
        """
        done, _ = ray.wait(list(self._pending), num_returns=1, timeout=SECONDS_UNTIL_WARNED)
        if not done:
            if not any(key for _, key in self._pending.values()):
                self._seconds_waited += SECONDS_UNTIL_WARNED
                free = ray.available_resources()
                has = f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs"
                waited = self._seconds_waited
                logger.warning("work waits for an actor since %.0f s; the cluster has %s free", waited, has)
                if waited >= self._longest_wait:
                    raise _no_room(waited, has, self._size)
                return PoolEvent(0, "late")
            if self._store is not None:
                _warn_if_it_fails(self._store)
            return PoolEvent(0, "tick")
        self._seconds_waited = 0.0
        return self._event(done[0])

    def release(self) -> None:
        """Kill the busy actors and keep the idle ones for the next stage."""
        at_work = {actor for actor, _ in self._pending.values()}
        for number, actor in self._actors.items():
            if number in at_work:
                ray.kill(actor)
            else:
                self._spare.append(actor)
        for state in (self._actors, self._nodes, self._pending):
            state.clear()

    def close(self) -> None:
        """Kill all actors."""
        self.release()
        while self._spare:
            ray.kill(self._spare.pop())

    def _event(self, done: ray.ObjectRef[Any]) -> PoolEvent:
        actor, key = self._pending.pop(done)
        try:
            found = ray.get(done)
        except RayTaskError as error:
            cause = cause_of(error)
            # Without its device an actor does no other unit, nor does one that could not begin.
            if key and not isinstance(cause, DeviceError):
                return PoolEvent(actor, "raised", key, error=cause)
            return self._ended(actor, cause)
        except ActorUnavailableError as error:
            return self._ended(actor, why_unavailable(self._actors[actor], error))
        except RayError as error:
            # Dead, unreachable or killed for memory. An unreachable actor may still run.
            return self._ended(actor, error)
        if key:
            return PoolEvent(actor, "done", key, found)
        self._nodes[actor], place = found
        return PoolEvent(actor, "ready", place=place)

    def _ended(self, actor: int, error: Exception) -> PoolEvent:
        ray.kill(self._actors.pop(actor))
        self._pending = {ref: place for ref, place in self._pending.items() if place[0] != actor}
        is_blameless = actor in self.leaving() or went_with_its_node(error)
        self._nodes.pop(actor, None)
        return PoolEvent(actor, "lost", error=error, is_blameless=is_blameless)

    def leaving(self) -> set[int]:
        """Actors on nodes that Ray drains."""
        nodes = _draining_nodes(int(time.monotonic() / _SECONDS_BETWEEN_LOOKS)) if self._nodes else ()
        return {actor for actor, node in self._nodes.items() if node in nodes}


def _no_room(seconds: float, free: str, size: WorkerSize) -> ResourceError:
    return ResourceError(
        f"no actor could start for {seconds:.0f} s",
        found=f"{free} free in the cluster",
        expected=f"room for one with {size.cpus:g} CPUs and {size.gpus:g} GPUs within cluster.wait_seconds",
        next="run the same command when there is: what is done is kept; or lower cluster.cpus_per_actor or "
        "cluster.gpus_per_actor",
    )


def why_unavailable(actor: Any, error: RayError) -> RayError:
    """Why an actor could not be reached, as Ray knows it a little later; `error` if it never does."""
    try:
        ray.get(actor.__ray_ready__.remote(), timeout=_SECONDS_FOR_A_REASON)
    except GetTimeoutError:
        return error
    except RayError as reason:
        return reason
    return error


def went_with_its_node(error: Exception) -> bool:
    """Whether an actor was lost because its node was preempted, died or cannot be reached."""
    if isinstance(error, ActorUnavailableError) or bool(getattr(error, "preempted", False)):
        return True
    return any(words in str(error) for words in _OF_NODES)


@lru_cache(1)
def _draining_nodes(now: int) -> frozenset[str]:
    """Ids of nodes that Ray drains. `now` changes when it is time to ask again."""
    from ray._private import state  # no public function tells it

    ask: Any = getattr(state.state, "get_draining_nodes", dict)
    return frozenset(ask())


def _warn_if_it_fails(store: Store) -> None:
    """Say here what workers cannot say: their lines would break the progress display."""
    try:
        store.check_writable()
    except ArtifactError as error:
        logger.warning(
            "storage fails: %s (%s); workers keep their results and try again", error.summary, error.found
        )


def cause_of(error: RayTaskError) -> Exception:
    """The exception that the task raised, with the remote traceback as a note."""
    cause = getattr(error, "cause", None)
    if not isinstance(cause, Exception) or isinstance(cause, RayTaskError):
        cause = RuntimeError(str(error))
    cause.add_note(str(error))
    return cause
