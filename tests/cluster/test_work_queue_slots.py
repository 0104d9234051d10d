"""Actors that do several units at the same time: who gets which, and what a death costs."""

from __future__ import annotations

from collections import Counter, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edc_ray.cluster.work_queue import PoolEvent, WorkQueue
from edc_ray.errors import DeviceError, ResourceError
from edc_ray.stages.units.plan import Outcome, WorkUnit
from tests.cluster.fake_stage import fake_config, fake_context, fake_stage, fake_units, tries_of
from tests.cluster.test_work_queue import ScriptedPool, units_called


class PoolOfSlots(ScriptedPool):
    """Also knows what runs where. Deaths come before all else, and a dead actor takes its units along."""

    def __init__(self, script: dict[str, list[str]] | None = None, starts: list[str] | None = None) -> None:
        super().__init__(script, starts)
        self.running: dict[int, set[str]] = {}
        self.begun: list[tuple[str, str]] = []  # each try, and the units that it began beside
        self.most = Counter[int]()

    def submit(self, actor: int, unit: WorkUnit) -> None:
        there = self.running.setdefault(actor, set())
        self.begun.append((unit.key, "".join(sorted(there))))
        there.add(unit.key)
        self.most[actor] = max(self.most[actor], len(there))
        super().submit(actor, unit)

    def wait(self) -> PoolEvent:
        self.events = deque(sorted(self.events, key=lambda each: each.kind not in ("ready", "lost")))
        event = super().wait()
        if event.kind == "lost":
            self.running.pop(event.actor, None)
            self.events = deque(each for each in self.events if each.actor != event.actor)
        elif event.key:
            self.running[event.actor].discard(event.key)
        return event


def ended(pool: PoolOfSlots, keys: str, **settings: Any) -> dict[str, Outcome]:
    count = settings.pop("num_actors", 1)
    queue = WorkQueue(
        pool, units_called(*keys), num_actors=lambda: count, **{"retries": 1, "slots": 3} | settings
    )
    outcomes = list(queue.outcomes())
    assert len(outcomes) == len({outcome.unit.key for outcome in outcomes}) == len(keys)
    return {outcome.unit.key: outcome for outcome in outcomes}


def test_few_units_are_spread_over_the_actors_though_the_first_is_ready_before_the_second() -> None:
    pool = PoolOfSlots()
    assert all(outcome.record for outcome in ended(pool, "abcd", num_actors=2, slots=8).values())
    assert pool.most == {1: 2, 2: 2}


def test_many_units_fill_every_slot_and_no_more() -> None:
    pool = PoolOfSlots()
    assert all(outcome.record for outcome in ended(pool, "abcdefghijkl", num_actors=2).values())
    assert pool.most == {1: 3, 2: 3}
    assert pool.started == 2


def test_an_actor_takes_all_units_where_no_other_starts() -> None:
    pool = PoolOfSlots(starts=["ready", *["lost"] * 9])
    assert all(outcome.record for outcome in ended(pool, "abcd", num_actors=2, slots=4).values())
    assert pool.most[1] >= 3


def test_an_actor_that_dies_with_several_units_costs_none_of_them_a_try() -> None:
    pool = PoolOfSlots({"b": ["lost"]})
    assert all(outcome.record for outcome in ended(pool, "abc", retries=0).values())
    assert Counter(pool.tries) >= Counter("abcb")
    assert pool.started == 2


def test_a_deadly_unit_is_found_by_leaving_it_alone_and_the_others_are_done() -> None:
    pool = PoolOfSlots({"b": ["lost"] * 9})
    outcomes = ended(pool, "abc")
    with pytest.raises(ResourceError, match=r"unit 'unit b' died 2 times[\s\S]*b lost"):
        raise outcomes["b"].error or AssertionError
    assert all(outcomes[key].record for key in "ac")
    together = [("a", ""), ("b", "a"), ("c", "ab")]
    assert pool.begun == [*together, *together, ("a", ""), ("b", ""), ("c", ""), ("b", "")]


def test_a_lost_device_is_named_with_what_to_look_for() -> None:
    class Lost(PoolOfSlots):
        def wait(self) -> PoolEvent:
            event = super().wait()
            gone = DeviceError("the device (H100 on node-3) failed in unit 'a': CUDA error", next="again")
            return PoolEvent(event.actor, "lost", error=gone) if event.kind == "lost" else event

    outcomes = ended(Lost({"a": ["lost"] * 9}), "a", retries=0)
    with pytest.raises(ResourceError, match=r"died 1 time\n[\s\S]*H100 on node-3[\s\S]*nvidia-smi and dmesg"):
        raise outcomes["a"].error or AssertionError


def test_on_ray_units_meet_in_one_actor_and_a_lost_device_replaces_it(
    ray_of_tests: None, tmp_path: Path
) -> None:
    from edc_ray.cluster.driver import ray_executor

    fields = {"cluster__num_actors": 1, "cluster__trainings_per_actor": 3, "cluster__retries": 1}
    context, marks = fake_context(tmp_path / "run", np.arange(4), **fields), tmp_path / "marks"
    doings = {"a": {"do": "meet", "others": 2}, "b": {"do": "meet", "others": 2}, "c": "lose the device once"}
    stage = fake_stage("squeeze", trains=True)
    with ray_executor(fake_config(tmp_path, **fields)) as execute:
        outcomes = list(execute(stage, context, fake_units(marks, "squeeze", **doings)))  # type: ignore[arg-type]
        after = list(execute(fake_stage("init"), context, fake_units(marks, "init", d="work")))
    assert [outcome.error for outcome in (*outcomes, *after)] == [None] * 4
    assert tries_of(marks, "c") == 2
    pids = {path.name.split(".")[1] for path in marks.glob("c.*")}
    assert len(pids) == 2, "another process"
