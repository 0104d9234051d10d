"""Policy of a stage on actors: who gets which unit, what is tried again, when an actor is replaced.

Ray stands behind the `Pool` protocol, so the policy is tested without it. An error that a unit raises would
be raised again: it is reported, and its actor goes on. A dead actor says nothing about its unit: the unit is
tried again on another actor, at the end of the queue, so that a deadly unit holds up nobody.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from edc_ray.artifacts.proof.manifest import Record
from edc_ray.errors import ResourceError
from edc_ray.stages.units.plan import Outcome, WorkUnit


@dataclass(frozen=True)
class PoolEvent:
    """What happened to an actor: it answers now, its unit ended, or it is gone."""

    actor: int
    kind: Literal["ready", "done", "raised", "lost"]
    record: Record | None = None
    error: Exception | None = None


class Pool(Protocol):
    """Actors under numbers."""

    def start(self) -> int:
        """Ask for one more actor; a `ready` or `lost` event follows, after whatever time."""
        ...

    def submit(self, actor: int, unit: WorkUnit) -> None:
        """Give an idle actor a unit; a `done`, `raised` or `lost` event follows."""
        ...

    def wait(self) -> PoolEvent:
        """The next event."""
        ...

    def release(self) -> None:
        """The queue is done with all actors; those that are at work are to be ended."""
        ...


class WorkQueue:
    """Takes units through a pool of actors.

    Args:
        pool: where the actors are.
        units: to be done, each once; in which order they end does not matter.
        num_actors: at most so many; never more than there are units left.
        min_actors: units are handed out once so many actors have answered.
        retries: further tries of a unit whose actor died.
    """

    def __init__(
        self, pool: Pool, units: Sequence[WorkUnit], *, num_actors: int, min_actors: int = 1, retries: int = 2
    ) -> None:
        self._pool = pool
        self._waiting = deque(units)
        self._num_actors = num_actors
        self._min_actors = min(min_actors, num_actors, len(units))
        self._retries = retries
        self._starting: set[int] = set()
        self._idle: list[int] = []
        self._busy: dict[int, WorkUnit] = {}
        self._deaths: Counter[str] = Counter()
        self._failed_starts = 0
        self._start_error: Exception | None = None
        self._is_open = False

    def outcomes(self) -> Iterator[Outcome]:
        """One Outcome for each unit, as they end. The actors are released when the iterator ends.

        Raises:
            ResourceError: no actor can be started.
        """
        try:
            while self._waiting or self._busy:
                self._keep_up_actors()
                event = self._pool.wait()
                outcome = self._lost(event) if event.kind == "lost" else self._answered(event)
                self._hand_out()
                if outcome is not None:
                    yield outcome
        finally:
            self._pool.release()

    def _keep_up_actors(self) -> None:
        wanted = min(self._num_actors, len(self._waiting) + len(self._busy))
        there = len(self._starting) + len(self._idle) + len(self._busy)
        if self._failed_starts > self._retries:
            if there == 0:
                raise _no_actor_starts(self._start_error)
            return  # those that run go on
        for _ in range(wanted - there):
            self._starting.add(self._pool.start())

    def _hand_out(self) -> None:
        # Only actors that have answered get a unit: one that waits for a free node would hold it for ever.
        no_more_come = self._failed_starts > self._retries and not self._starting
        self._is_open = self._is_open or no_more_come or len(self._idle) >= self._min_actors
        while self._is_open and self._idle and self._waiting:
            actor, unit = self._idle.pop(), self._waiting.popleft()
            self._busy[actor] = unit
            self._pool.submit(actor, unit)

    def _answered(self, event: PoolEvent) -> Outcome | None:
        self._idle.append(event.actor)
        if event.kind == "ready":
            self._starting.discard(event.actor)
            self._failed_starts = 0
            return None
        return Outcome(self._busy.pop(event.actor), record=event.record, error=event.error)

    def _lost(self, event: PoolEvent) -> Outcome | None:
        if event.actor in self._starting:
            self._starting.discard(event.actor)
            self._failed_starts += 1
            self._start_error = event.error
            return None
        unit = self._busy.pop(event.actor)
        self._deaths[unit.key] += 1
        if self._deaths[unit.key] <= self._retries:
            self._waiting.append(unit)
            return None
        return Outcome(unit, error=worker_died(unit, self._deaths[unit.key], event.error))


def worker_died(unit: WorkUnit, times: int, reason: Exception | None) -> ResourceError:
    """The error of a unit under which worker after worker died."""
    return ResourceError(
        f"{unit.stage}: the worker of unit '{unit.title}' died {times} time{'s' if times > 1 else ''}",
        found=brief(reason),
        next="most often too little memory: set a smaller cluster.num_actors, or smaller units or batches",
    )


def _no_actor_starts(reason: Exception | None) -> ResourceError:
    return ResourceError(
        "no actor of the stage can be started",
        found=brief(reason),
        next="see the worker logs of Ray; the same command with cluster.address=none shows errors directly",
    )


def brief(reason: Exception | None) -> str:
    """One line of what an actor or a run died of."""
    lines = [line.strip() for line in str(reason).strip().splitlines() if line.strip()]
    if not lines:
        return "unknown"
    # The last line of a remote traceback holds the error itself; Ray's own messages say it first.
    line = lines[-1] if "Traceback" in str(reason) else lines[0]
    return f"{type(reason).__name__}: {line[:300]}"
