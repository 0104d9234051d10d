"""Whose fault it is: a unit's, an actor's, or that of a machine that goes."""

from __future__ import annotations

from collections import Counter, deque

import pytest

from edc_ray.cluster.work_queue import PoolEvent, WorkQueue
from edc_ray.errors import ResourceError
from edc_ray.stages.units.plan import Outcome, WorkUnit
from tests.cluster.test_work_queue import ScriptedPool, units_called

LETTERS = "abcdefghijklmnopqrst"


class PoolOfPlaces(ScriptedPool):
    """Actors have places, and some fail at everything at once. The others are slower than these."""

    def __init__(
        self, script: dict[str, list[str]] | None = None, *, broken: frozenset[int] = frozenset()
    ) -> None:
        super().__init__(script)
        self.broken = broken
        self.given: dict[int, list[str]] = {}

    def start(self) -> int:
        super().start()
        event = self.events.pop()
        self.events.append(PoolEvent(event.actor, event.kind, error=event.error, place=f"node {event.actor}"))
        return event.actor

    def submit(self, actor: int, unit: WorkUnit) -> None:
        self.given.setdefault(actor, []).append(unit.key)
        if actor in self.broken:
            self.events.appendleft(PoolEvent(actor, "raised", unit.key, error=RuntimeError("no GPU")))
            return
        super().submit(actor, unit)
        event = self.events[-1]
        if event.error is not None and "preempted" in str(event.error):
            self.events[-1] = PoolEvent(actor, "lost", error=event.error, is_blameless=True)

    def wait(self) -> PoolEvent:
        ready = next((one for one in self.events if one.kind == "ready"), None)
        if ready is not None:
            self.events.remove(ready)
            return ready
        return super().wait()


def ended(pool: PoolOfPlaces, keys: str, **settings: int) -> dict[str, Outcome]:
    count = settings.pop("num_actors", 2)
    queue = WorkQueue(pool, units_called(*keys), num_actors=lambda: count, **{"retries": 1} | settings)
    outcomes = list(queue.outcomes())
    assert len(outcomes) == len({outcome.unit.key for outcome in outcomes}) == len(keys)
    return {outcome.unit.key: outcome for outcome in outcomes}


def test_a_broken_actor_costs_no_unit_and_is_set_aside_with_its_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = PoolOfPlaces(broken=frozenset({1}))
    outcomes = ended(pool, LETTERS)
    assert all(outcome.record for outcome in outcomes.values())
    assert len(pool.given[1]) == 2  # until others had done them, and none afterwards
    assert pool.started == 2  # it keeps its GPU, so that no other worker gets that
    (told,) = caplog.messages
    assert told.startswith("a worker (node 1) gets no more units: 2 failed there that others did")
    assert told.endswith("RuntimeError: no GPU")


def test_units_that_fail_everywhere_set_no_actor_aside(caplog: pytest.LogCaptureFixture) -> None:
    poisoned = {key: ["raised"] * 9 for key in LETTERS[::2]}
    pool = PoolOfPlaces(poisoned)
    outcomes = ended(pool, LETTERS)
    assert {key for key, one in outcomes.items() if one.error is not None} == set(LETTERS[::2])
    assert Counter(pool.tries) == {key: 2 if key in poisoned else 1 for key in LETTERS}
    assert not caplog.messages


def test_both_tries_of_a_unit_are_on_different_actors() -> None:
    pool = PoolOfPlaces({"c": ["raised"] * 9})
    ended(pool, LETTERS, num_actors=3)
    assert sum("c" in keys for keys in pool.given.values()) == 2
    assert pool.started == 3


def test_where_every_actor_is_broken_the_units_are_reported_and_nothing_waits_for_ever() -> None:
    outcomes = ended(PoolOfPlaces(broken=frozenset({1, 2})), LETTERS)
    assert all(isinstance(outcome.error, RuntimeError) for outcome in outcomes.values())


def test_a_death_with_its_machine_costs_a_unit_no_try_up_to_a_bound() -> None:
    pool = PoolOfPlaces({"b": ["preempted"] * 15})
    outcomes = ended(pool, "abc", retries=0)
    assert all(outcome.record for outcome in outcomes.values())
    assert pool.tries.count("b") == 16
    outcomes = ended(PoolOfPlaces({"b": ["preempted"] * 99}), "abc", retries=1)
    assert isinstance(outcomes["b"].error, ResourceError)


def test_an_actor_whose_machine_goes_gets_no_new_units_while_there_are_others() -> None:
    pool = PoolOfPlaces()
    pool.gone_soon = {1}
    assert all(outcome.record for outcome in ended(pool, LETTERS).values())
    assert pool.given.keys() == {2}
    alone = PoolOfPlaces()
    alone.gone_soon = {1}
    assert all(outcome.record for outcome in ended(alone, "abc", num_actors=1).values())


def test_where_no_other_actor_comes_for_long_the_one_that_is_there_tries_again() -> None:
    class OneOfTwo(PoolOfPlaces):
        def wait(self) -> PoolEvent:
            self.events = deque(one for one in self.events if not (one.kind == "ready" and one.actor == 2))
            return super().wait() if self.events else PoolEvent(0, "late")

    pool = OneOfTwo({"b": ["raised"]})
    assert all(outcome.record for outcome in ended(pool, "abc").values())
    assert pool.tries == ["a", "b", "c", "b"]
