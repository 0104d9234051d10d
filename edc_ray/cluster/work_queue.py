"""Policy of a stage on actors: which actor gets which unit, what is retried, when an actor is replaced.

Ray is behind the `Pool` protocol, so the policy is tested without it. A unit that raises would raise again:
its error is reported, and the actor continues. The unit of an actor that died goes to the end of the queue
and is retried on another actor, so a unit that kills its actors delays no other.
"""

from __future__ import annotations

import traceback
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from edc_ray.artifacts.proof.manifest import Record
from edc_ray.errors import EdcRayError, ResourceError
from edc_ray.stages.units.plan import Outcome, WorkUnit


@dataclass(frozen=True)
class PoolEvent:
    """What happened to an actor: it is ready, its unit ended, or it is lost."""

    actor: int
    kind: Literal["ready", "done", "raised", "lost"]
    record: Record | None = None
    error: Exception | None = None


class Pool(Protocol):
    """Actors, each with a number."""

    def start(self) -> int:
        """Request one more actor. A `ready` or `lost` event follows at some time."""
        ...

    def submit(self, actor: int, unit: WorkUnit) -> None:
        """Give an idle actor a unit. A `done`, `raised` or `lost` event follows."""
        ...

    def wait(self) -> PoolEvent:
        """The next event."""
        ...

    def release(self) -> None:
        """The queue needs no more actors. Busy ones must end."""
        ...


class WorkQueue:
    """Runs units on a pool of at most `num_actors` actors, never more than there are units left.

    Work starts once `min_actors` are ready. A unit whose actor died has `retries`.
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
        """One Outcome per unit, in the order in which they end. Then the actors are released.

        Raises:
            ResourceError: no actor starts.
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
    """The error of a unit whose workers died repeatedly."""
    return ResourceError(
        f"{unit.stage}: the worker of unit '{unit.title}' died {times} time{'s' if times > 1 else ''}",
        found=brief(reason),
        next="often memory runs out: set a smaller cluster.num_actors, or smaller units or batches",
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
