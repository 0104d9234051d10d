"""Which units may compute now in one process: beside others as far as the memory goes, or alone."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from edc_ray.stages.units.context import Seat

MARGIN = 1.2
"""Free memory for one more unit, as a multiple of the largest need that was seen."""
STEPS_UNTIL_SETTLED = 4
"""A captured step runs twice, is recorded in its third call and replayed in its fourth."""


class StoppedError(Exception):
    """The process does no more units, so this one ends."""


class Memory(Protocol):
    """The memory of a device."""

    def free(self) -> float:
        """Bytes that nobody holds."""
        ...

    def give_back(self) -> None:
        """Return what ended units held."""
        ...


class SharedSeat(Seat):
    """A seat beside others, or alone. Units at the same time have different numbers, from 0."""

    def __init__(self, admission: Admission, number: int, *, alone: bool) -> None:
        self._admission = admission
        self.number = number
        self.alone = alone
        self.had_company = False
        self.free_before = 0.0
        self.is_settled = False
        self._steps = 0

    def step_done(self) -> None:
        """See Seat.

        Raises:
            StoppedError: the process ends its units.
        """
        self._steps += 1
        if self._steps == STEPS_UNTIL_SETTLED:
            self._admission.settle(self)
        self._admission.refuse_if_stopped()

    def go_on_alone(self) -> None:
        """See Seat."""
        if not self.alone:
            self._admission.leave(self)
            self.alone, self.had_company = True, False
            self._admission.take(self)


class Admission:
    """Gives seats in the order in which they are asked for, so nobody waits for ever.

    A unit beside others is admitted if the memory that is free suffices by what is known: the largest need of
    those before it, each measured from its admission until it has settled. Meanwhile no other is admitted.
    With nobody there, it always is.

    Args:
        memory: of the device; None: it is not looked at.
    """

    def __init__(self, memory: Memory | None = None) -> None:
        self._memory = memory
        self._changed = threading.Condition()
        self._waiting: deque[SharedSeat] = deque()
        self._seated: list[SharedSeat] = []
        self._numbers: set[int] = set()
        self._largest_need = 0.0
        self._is_stopped = False

    @contextmanager
    def seat(self, *, alone: bool = False) -> Iterator[SharedSeat]:
        """A seat within the block, as soon as there is one.

        Raises:
            StoppedError: the process does no more units.
        """
        with self._changed:
            number = next(one for one in range(len(self._numbers) + 1) if one not in self._numbers)
            self._numbers.add(number)
        seat = SharedSeat(self, number, alone=alone)
        try:
            self.take(seat)
            yield seat
        finally:
            self.leave(seat)
            with self._changed:
                self._numbers.discard(number)

    def stop(self) -> None:
        """End the units: those that wait now, the others after their step."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def refuse_if_stopped(self) -> None:
        """Raise StoppedError if the process does no more units."""
        if self._is_stopped:
            raise StoppedError("the process ends its units")

    def take(self, seat: SharedSeat) -> None:
        """Return once there is room for the seat."""
        with self._changed:
            self._waiting.append(seat)
            try:
                self._changed.wait_for(lambda: self._is_stopped or self._has_room_for(seat))
                self.refuse_if_stopped()
                self._seated.append(seat)
                for each in self._seated if len(self._seated) > 1 else ():
                    each.had_company = True
                seat.free_before = self._memory.free() if self._memory else 0.0
            finally:
                self._waiting.remove(seat)
                self._changed.notify_all()

    def settle(self, seat: SharedSeat) -> None:
        """The unit holds all the memory that it needs."""
        with self._changed:
            if not seat.is_settled and self._memory is not None:
                self._largest_need = max(self._largest_need, seat.free_before - self._memory.free())
            seat.is_settled = True
            self._changed.notify_all()

    def leave(self, seat: SharedSeat) -> None:
        """Free the seat for others."""
        try:
            if seat in self._seated:
                self.settle(seat)
                if self._memory is not None:
                    self._memory.give_back()
        finally:  # also if the device does not answer any more
            with self._changed:
                self._seated = [one for one in self._seated if one is not seat]
                self._changed.notify_all()

    def _has_room_for(self, seat: SharedSeat) -> bool:
        if self._waiting[0] is not seat:
            return False
        if not self._seated:
            return True
        if seat.alone or any(one.alone for one in self._seated):
            return False
        if self._memory is None:
            return True
        settled = all(one.is_settled for one in self._seated)
        return settled and self._memory.free() >= MARGIN * self._largest_need
