"""Who may compute now: threads that ask for seats in a known order, and a memory that the test fills."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from edc_ray.stages.side_by_side.admission import STEPS_UNTIL_SETTLED, Admission, SharedSeat, StoppedError

SECONDS = 60.0
BRIEFLY = 0.05


class Unit:
    """A thread with a seat; it holds it until `end`, and does what `ask` says meanwhile."""

    def __init__(self, admission: Admission, *, alone: bool = False) -> None:
        self.seated, self._ended = threading.Event(), threading.Event()
        self.seat: SharedSeat | None = None
        self.error: Exception | None = None
        self._asked: list[Callable[[SharedSeat], None]] = []
        self._thread = threading.Thread(target=self._run, args=(admission, alone), daemon=True)
        before, deadline = known(admission), time.monotonic() + SECONDS
        self._thread.start()
        while known(admission) == before:  # so that units ask in the order of the test
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def _run(self, admission: Admission, alone: bool) -> None:
        try:
            with admission.seat(alone=alone) as self.seat:
                self.seated.set()
                self._ended.wait(SECONDS)
                for ask in self._asked:
                    self.seated.clear()
                    self._ended.clear()
                    ask(self.seat)
                    self.seated.set()
                    self._ended.wait(SECONDS)
        except StoppedError as error:
            self.error = error

    def goes_on_alone(self) -> None:
        """Ask for the process; returns before the answer."""
        self._asked.append(SharedSeat.go_on_alone)
        self.seated.clear()
        self._ended.set()
        time.sleep(BRIEFLY)

    def sits(self, *, soon: bool = False) -> bool:
        return self.seated.wait(SECONDS if soon else BRIEFLY)

    def settles(self) -> None:
        assert self.seat is not None
        for _ in range(STEPS_UNTIL_SETTLED):
            self.seat.step_done()

    def ends(self) -> None:
        self._ended.set()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()


def known(admission: Admission) -> int:
    """Units that sit or wait."""
    return len(admission._seated) + len(admission._waiting)


class FakeMemory:
    """A memory of 100; the test says what units hold."""

    def __init__(self) -> None:
        self.held, self.returned = 0.0, 0

    def free(self) -> float:
        return 100.0 - self.held

    def give_back(self) -> None:
        self.returned += 1


@pytest.fixture
def memory() -> FakeMemory:
    return FakeMemory()


@pytest.fixture
def ended() -> Iterator[list[Unit]]:
    units: list[Unit] = []
    yield units
    for unit in units:
        unit.ends()


def test_units_sit_beside_each_other_with_numbers_of_their_own_that_are_used_again(ended: list[Unit]) -> None:
    admission = Admission()
    first, second = Unit(admission), Unit(admission)
    ended.append(second)
    assert first.sits(soon=True)
    assert second.sits(soon=True)
    assert [unit.seat.number for unit in (first, second) if unit.seat] == [0, 1]
    assert first.seat is not None
    assert first.seat.had_company
    first.ends()
    third = Unit(admission)
    ended.append(third)
    assert third.sits(soon=True)
    assert third.seat is not None
    assert third.seat.number == 0


def test_a_unit_alone_waits_for_the_others_and_those_that_come_later_wait_for_it(ended: list[Unit]) -> None:
    admission = Admission()
    first = Unit(admission)
    assert first.sits(soon=True)
    alone, later = Unit(admission, alone=True), Unit(admission)
    ended.append(later)
    assert not alone.sits()
    assert not later.sits(), "it must not overtake, or the one alone could wait for ever"
    first.ends()
    assert alone.sits(soon=True)
    assert not later.sits()
    alone.ends()
    assert later.sits(soon=True)


def test_a_unit_that_finds_out_late_gives_up_its_seat_and_goes_on_alone(ended: list[Unit]) -> None:
    admission = Admission()
    first, second = Unit(admission), Unit(admission)
    assert first.sits(soon=True)
    assert second.sits(soon=True)
    second.goes_on_alone()
    later = Unit(admission)
    ended.append(later)
    assert not second.sits()
    first.ends()
    assert second.sits(soon=True)
    assert second.seat is not None
    assert second.seat.alone
    assert not second.seat.had_company
    assert not later.sits()
    second.ends()
    assert later.sits(soon=True)


def test_two_units_that_go_on_alone_wait_for_each_other(ended: list[Unit]) -> None:
    admission = Admission()
    first, second = Unit(admission), Unit(admission)
    assert first.sits(soon=True)
    assert second.sits(soon=True)
    first.goes_on_alone()
    second.goes_on_alone()
    assert first.sits(soon=True)
    assert not second.sits()
    first.ends()
    assert second.sits(soon=True)
    ended.append(second)


def test_the_next_unit_waits_until_the_need_of_the_one_before_is_known(
    memory: FakeMemory, ended: list[Unit]
) -> None:
    admission = Admission(memory)
    first = Unit(admission)
    assert first.sits(soon=True)
    second = Unit(admission)
    ended += [first, second]
    assert not second.sits()
    memory.held = 40.0
    first.settles()
    assert second.sits(soon=True), "40 of 100 are held, and 1.2 times 40 are free"


def test_a_unit_whose_need_has_no_room_waits_until_one_ends(memory: FakeMemory, ended: list[Unit]) -> None:
    admission = Admission(memory)
    first = Unit(admission)
    assert first.sits(soon=True)
    memory.held = 50.0
    first.settles()
    second = Unit(admission)
    ended.append(second)
    assert not second.sits(), "50 are free, which is less than 1.2 times 50"
    memory.held = 0.0
    first.ends()
    assert second.sits(soon=True)
    assert memory.returned == 1


def test_a_unit_with_nobody_beside_it_is_admitted_whatever_the_memory(
    memory: FakeMemory, ended: list[Unit]
) -> None:
    admission = Admission(memory)
    first = Unit(admission)
    assert first.sits(soon=True)
    memory.held = 99.0
    first.settles()
    first.ends()
    second = Unit(admission)
    ended.append(second)
    assert second.sits(soon=True)


def test_the_need_of_a_unit_that_ends_early_counts(memory: FakeMemory, ended: list[Unit]) -> None:
    admission = Admission(memory)
    first = Unit(admission)
    assert first.sits(soon=True)
    memory.held = 60.0
    first.ends()
    memory.held = 0.0
    second = Unit(admission)
    assert second.sits(soon=True)
    memory.held = 30.0
    second.settles()
    third = Unit(admission)
    ended += [second, third]
    assert not third.sits(), "70 are free, which is less than 1.2 times 60"


def test_a_process_that_stops_ends_who_waits_and_who_works(ended: list[Unit]) -> None:
    admission = Admission()
    first = Unit(admission)
    assert first.sits(soon=True)
    waiting = Unit(admission, alone=True)
    admission.stop()
    waiting.ends()
    assert isinstance(waiting.error, StoppedError)
    assert first.seat is not None
    with pytest.raises(StoppedError):
        first.seat.step_done()
    ended.append(first)


def test_a_memory_that_does_not_answer_keeps_no_seat_taken(
    memory: FakeMemory, ended: list[Unit], monkeypatch: pytest.MonkeyPatch
) -> None:
    admission = Admission(memory)

    def lost() -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(memory, "give_back", lost)
    with pytest.raises(RuntimeError, match="CUDA error"), admission.seat():
        pass
    monkeypatch.undo()
    second = Unit(admission, alone=True)
    ended.append(second)
    assert second.sits(soon=True)
