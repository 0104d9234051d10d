"""Policy of a stage on actors: which actor gets which unit, what is retried, when an actor is replaced.

Ray is behind the `Pool` protocol, so the policy is tested without it. A unit that raises would raise again:
its error is reported, and the actor continues. The units of an actor that died go to the end of the queue
and are retried on another actor, so a unit that kills its actors delays no other.
"""

from __future__ import annotations

import math
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from edc_ray.artifacts.proof.manifest import Record
from edc_ray.errors import DeviceError, EdcRayError, ResourceError, StorageError
from edc_ray.stages.units.plan import Outcome, WorkUnit


@dataclass(frozen=True)
class PoolEvent:
    """What happened to an actor: it is ready, its unit `key` ended, or it is lost with all its units."""

    actor: int
    kind: Literal["ready", "done", "raised", "lost"]
    key: str = ""
    record: Record | None = None
    error: Exception | None = None


class Pool(Protocol):
    """Actors, each with a number."""

    def start(self) -> int:
        """Request one more actor. A `ready` or `lost` event follows at some time."""
        ...

    def submit(self, actor: int, unit: WorkUnit) -> None:
        """Give an actor a unit, beside those that it has. A `done`, `raised` or `lost` event follows."""
        ...

    def wait(self) -> PoolEvent:
        """The next event."""
        ...

    def release(self) -> None:
        """The queue needs no more actors. Busy ones must end."""
        ...


class WorkQueue:
    """Runs units on a pool of at most `num_actors` actors, never more than there are units left.

    Work starts once `min_actors` are ready. An actor does up to `slots` units at the same time; few units are
    spread over the actors. A unit whose actor died has `retries`. If the actor had several, nobody knows
    which of them it was: none loses a try, but a unit that it happens to twice has an actor for itself.
    """

    def __init__(
        self,
        pool: Pool,
        units: Sequence[WorkUnit],
        *,
        num_actors: int,
        min_actors: int = 1,
        retries: int = 2,
        slots: int = 1,
    ) -> None:
        self._pool = pool
        self._waiting = deque(units)
        self._num_actors = num_actors
        self._min_actors = min(min_actors, num_actors, len(units))
        self._retries = retries
        self._slots = slots
        self._starting: set[int] = set()
        self._running: dict[int, dict[str, WorkUnit]] = {}  # of each actor that is ready
        self._deaths: Counter[str] = Counter()
        self._deaths_in_company: Counter[str] = Counter()
        self._failed_starts = 0
        self._start_error: Exception | None = None
        self._is_open = False

    def outcomes(self) -> Iterator[Outcome]:
        """One Outcome per unit, in the order in which they end. Then the actors are released.

        Raises:
            ResourceError: no actor starts.
        """
        try:
            while self._left():
                self._keep_up_actors()
                event = self._pool.wait()
                outcome = self._lost(event) if event.kind == "lost" else self._answered(event)
                self._hand_out()
                if outcome is not None:
                    yield outcome
        finally:
            self._pool.release()

    def _left(self) -> int:
        return len(self._waiting) + sum(map(len, self._running.values()))

    def _keep_up_actors(self) -> None:
        wanted = min(self._num_actors, self._left())
        there = len(self._starting) + len(self._running)
        if self._failed_starts > self._retries:
            if there == 0:
                raise ResourceError(
                    "no actor of the stage starts",
                    found=brief(self._start_error),
                    next="see the worker logs of Ray, or run with cluster.address=none, which shows errors "
                    "directly",
                )
            return  # the others continue
        for _ in range(wanted - there):
            self._starting.add(self._pool.start())

    def _hand_out(self) -> None:
        # Only ready actors get a unit: one that waits for a free node would block it.
        no_more_come = self._failed_starts > self._retries and not self._starting
        self._is_open = self._is_open or no_more_come or len(self._running) >= self._min_actors
        while self._is_open and self._waiting:
            actor = self._actor_for(self._waiting[0])
            if actor is None:
                return
            unit = self._waiting.popleft()
            self._running[actor][unit.key] = unit
            self._pool.submit(actor, unit)

    def _actor_for(self, unit: WorkUnit) -> int | None:
        """The actor with the fewest units that takes one more; None if there is none now."""
        share = math.ceil(self._left() / max(1, len(self._running) + len(self._starting)))
        most = 1 if self._works_alone(unit.key) else min(self._slots, share)
        takers = [
            actor
            for actor, units in self._running.items()
            if len(units) < most and not any(map(self._works_alone, units))
        ]
        return min(takers, key=lambda actor: len(self._running[actor]), default=None)

    def _works_alone(self, key: str) -> bool:
        return self._deaths_in_company[key] > 1

    def _answered(self, event: PoolEvent) -> Outcome | None:
        if event.kind == "ready":
            self._running[event.actor] = {}
            self._starting.discard(event.actor)
            self._failed_starts = 0
            return None
        unit = self._running[event.actor].pop(event.key)
        if isinstance(event.error, StorageError):
            self._waiting.clear()  # their results could not be stored either
        return Outcome(unit, record=event.record, error=event.error)

    def _lost(self, event: PoolEvent) -> Outcome | None:
        if event.actor in self._starting:
            self._starting.discard(event.actor)
            self._failed_starts += 1
            self._start_error = event.error
            return None
        units = list(self._running.pop(event.actor).values())
        if len(units) > 1:
            self._deaths_in_company.update(unit.key for unit in units)
            self._waiting.extend(units)
            return None
        (unit,) = units
        self._deaths[unit.key] += 1
        if self._deaths[unit.key] <= self._retries:
            self._waiting.append(unit)
            return None
        return Outcome(unit, error=worker_died(unit, self._deaths[unit.key], event.error))


def worker_died(unit: WorkUnit, times: int, reason: Exception | None) -> ResourceError:
    """The error of a unit whose workers died repeatedly."""
    advice = "often memory runs out: set a smaller cluster.num_actors, or smaller units or batches"
    if isinstance(reason, DeviceError):
        advice = "look for errors of the GPU with nvidia-smi and dmesg, then run the same command again"
    return ResourceError(
        f"{unit.stage}: the worker of unit '{unit.title}' died {times} time{'s' if times > 1 else ''}",
        found=brief(reason),
        next=advice,
    )


def brief(reason: Exception | None) -> str:
    """One line that says why an actor or a run died."""
    lines = [line.strip() for line in str(reason).strip().splitlines() if line.strip()]
    if not lines:
        return "unknown"
    # The error is in the last line of a remote traceback, but in the first line of Ray's own messages.
    line = lines[-1] if "Traceback" in str(reason) else lines[0]
    return f"{type(reason).__name__}: {line[:300]}"


class UnitRaisedError(Exception):
    """Wraps the portable error of a unit, to distinguish it from a worker's death and from Ray's errors."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


def portable(error: Exception) -> Exception:
    """The error with its traceback as a note, in a form that can be sent to another process.

    Of errors that are not ours only the text is sent, because they may fail to unpickle.
    """
    is_ours = isinstance(error, EdcRayError | UnitRaisedError)
    sent = error if is_ours else RuntimeError(f"{type(error).__name__}: {error}")
    sent.add_note("".join(traceback.format_exception(error)))
    return sent
