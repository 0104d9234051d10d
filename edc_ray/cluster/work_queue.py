"""Policy of a stage on actors: which actor gets which unit, what is retried, when an actor is replaced.

Ray is behind the `Pool` protocol, so the policy is tested without it. A unit that raises is tried once more,
by another actor if there is one: it may be the machine's fault, not the unit's. An actor whose units others
can do is set aside. The units of an actor that died go to the end of the queue and are retried on another, so
a unit that kills its actors delays no other.
"""

from __future__ import annotations

import logging
import math
import traceback
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from edc_ray.artifacts.proof.manifest import Record
from edc_ray.errors import DeviceError, EdcRayError, ResourceError, StorageError
from edc_ray.stages.units.plan import Outcome, WorkUnit

logger = logging.getLogger(__name__)

_MOST_SPARED = 20
"""Deaths of a unit's actors that were not its fault and cost it no try."""
_FAULTS = 2
"""Units that failed on an actor and that others did, until it is set aside."""


@dataclass(frozen=True)
class PoolEvent:
    """What happened to an actor: it is ready, its unit `key` ended, or it is lost with all its units.

    Two are of no actor, and come when nothing happened for long: `late` if all that could happen is the start
    of an actor, else `tick`.
    `place` says where a ready actor is. `is_blameless`: it was lost with its machine, whatever its units did.
    """

    actor: int
    kind: Literal["ready", "done", "raised", "lost", "late", "tick"]
    key: str = ""
    record: Record | None = None
    error: Exception | None = None
    place: str = ""
    is_blameless: bool = False


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

    def leaving(self) -> Collection[int]:
        """Actors whose machine goes soon: they get no new units while there are others."""
        ...

    def release(self) -> None:
        """The queue needs no more actors. Busy ones must end."""
        ...


class WorkQueue:
    """Runs units on a pool of at most `num_actors()` actors, never more than there are units left.

    That number may change: a cluster grows and shrinks. Actors that are there stay.
    Work starts once `min_actors` are ready. An actor does up to `slots` units at the same time; few units are
    spread over the actors. A unit whose actor died has `retries`. If the actor had several, nobody knows
    which of them it was: none loses a try, but a unit that it happens to twice has an actor for itself.
    """

    def __init__(
        self,
        pool: Pool,
        units: Sequence[WorkUnit],
        *,
        num_actors: Callable[[], int],
        min_actors: int = 1,
        retries: int = 2,
        slots: int = 1,
    ) -> None:
        self._pool = pool
        self._waiting = deque(units)
        self._num_actors = num_actors
        self._min_actors = min(min_actors, num_actors(), len(units))
        self._retries = retries
        self._slots = slots
        self._starting: set[int] = set()
        self._running: dict[int, dict[str, WorkUnit]] = {}  # of each actor that is ready
        self._places: dict[int, str] = {}
        self._raised: dict[str, tuple[int, Exception]] = {}  # the first try of units that raised: where, what
        self._faults: Counter[int] = Counter()  # of an actor: units that others did
        self._aside: set[int] = set()
        self._spared: Counter[str] = Counter()
        self._deaths: Counter[str] = Counter()
        self._deaths_in_company: Counter[str] = Counter()
        self._failed_starts = 0
        self._start_error: Exception | None = None
        self._is_open = False
        self._others_come = True

    def outcomes(self) -> Iterator[Outcome]:
        """One Outcome per unit, in the order in which they end. Then the actors are released.

        Raises:
            ResourceError: no actor starts.
        """
        try:
            while self._left():
                self._keep_up_actors()
                event = self._pool.wait()
                self._others_come = event.kind != "late"
                outcome = None
                if event.kind not in ("late", "tick"):
                    outcome = self._lost(event) if event.kind == "lost" else self._answered(event)
                self._hand_out()
                if outcome is not None:
                    yield outcome
        finally:
            self._pool.release()

    def _left(self) -> int:
        return len(self._waiting) + sum(map(len, self._running.values()))

    def _keep_up_actors(self) -> None:
        wanted = min(self._num_actors() - len(self._aside), self._left())
        there = len(self._starting) + len(self._running) - len(self._aside)
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
        while self._is_open and self._waiting and (chosen := self._next()) is not None:
            place, actor = chosen
            unit = self._waiting[place]
            del self._waiting[place]
            self._running[actor][unit.key] = unit
            self._pool.submit(actor, unit)

    def _next(self) -> tuple[int, int] | None:
        """The place of the next unit among those that wait, and its actor."""
        leaving = self._pool.leaving()
        for place, unit in enumerate(self._waiting):
            if (actor := self._actor_for(unit, leaving)) is not None:
                return place, actor
            if unit.key not in self._raised:  # one that raised waits for another actor, and blocks none
                return None
        return None

    def _actor_for(self, unit: WorkUnit, leaving: Collection[int]) -> int | None:
        """The actor with the fewest units that takes one more; None if there is none now."""
        share = math.ceil(self._left() / max(1, len(self._running) + len(self._starting) - len(self._aside)))
        most = 1 if self._works_alone(unit.key) else min(self._slots, share)
        takers = [
            actor
            for actor in self._trusted(unit, leaving)
            if len(self._running[actor]) < most and not any(map(self._works_alone, self._running[actor]))
        ]
        return min(takers, key=lambda actor: len(self._running[actor]), default=None)

    def _trusted(self, unit: WorkUnit, leaving: Collection[int]) -> list[int]:
        """Actors that may get a unit, busy or not; any actor where no better one is or comes."""
        first = self._raised[unit.key][0] if unit.key in self._raised else None
        open_faults = Counter(actor for actor, _ in self._raised.values())
        doubtful = {actor for actor, count in open_faults.items() if count + self._faults[actor] >= _FAULTS}
        waits = bool(self._starting) and self._others_come
        found = list(self._running)
        for others in (self._aside, leaving, doubtful, {first}):
            better = [actor for actor in found if actor not in others]
            found = better if better or waits else found
        return found

    def _works_alone(self, key: str) -> bool:
        return self._deaths_in_company[key] > 1

    def _answered(self, event: PoolEvent) -> Outcome | None:
        if event.kind == "ready":
            self._running[event.actor] = {}
            self._places[event.actor] = event.place
            self._starting.discard(event.actor)
            self._failed_starts = 0
            return None
        unit = self._running[event.actor].pop(event.key)
        if isinstance(event.error, StorageError):
            self._waiting.clear()  # their results could not be stored either
        elif event.error is not None and unit.key not in self._raised and self._others_than(event.actor):
            self._raised[unit.key] = event.actor, event.error
            self._waiting.appendleft(unit)
            return None
        first = self._raised.pop(unit.key, None)
        if first is not None and event.error is None:
            self._blame(*first)
        return Outcome(unit, record=event.record, error=event.error)

    def _others_than(self, actor: int) -> bool:
        return bool(self._starting or set(self._running) - self._aside - {actor})

    def _blame(self, actor: int, error: Exception) -> None:
        """Count a unit that failed on an actor and that another one did."""
        self._faults[actor] += 1
        if self._faults[actor] < _FAULTS or actor in self._aside or actor not in self._running:
            return
        self._aside.add(actor)
        logger.warning(
            "a worker (%s) gets no more units: %d failed there that others did; the last error: %s",
            self._places[actor] or f"number {actor}", self._faults[actor], brief(error),
        )  # fmt: skip

    def _lost(self, event: PoolEvent) -> Outcome | None:
        if event.actor in self._starting:
            self._starting.discard(event.actor)
            self._failed_starts += 1
            self._start_error = event.error
            return None
        units = list(self._running.pop(event.actor).values())
        self._aside.discard(event.actor)
        if event.is_blameless and all(self._spared[unit.key] < _MOST_SPARED for unit in units):
            self._spared.update(unit.key for unit in units)
            self._waiting.extend(units)
            return None
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
