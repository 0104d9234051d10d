from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edc_ray.artifacts.proof.manifest import Record, read_record
from edc_ray.artifacts.storage.layout import stage_folder
from edc_ray.cluster.work_queue import PoolEvent, WorkQueue
from edc_ray.errors import ResourceError, StorageError
from edc_ray.stages.units.plan import Outcome, WorkUnit
from tests.cluster.fake_stage import fake_config, fake_context, fake_stage, fake_units, tries_of


class ScriptedPool:
    """A pool without Ray: `script` says how each try of a unit ends; tries that it does not name succeed."""

    def __init__(self, script: dict[str, list[str]] | None = None, starts: list[str] | None = None) -> None:
        self.script = script or {}
        self.starts = deque(starts or [])
        self.events: deque[PoolEvent] = deque()
        self.started = 0
        self.tries: list[str] = []
        self.released = False
        self.gone_soon: set[int] = set()

    def start(self) -> int:
        self.started += 1
        kind: Any = self.starts.popleft() if self.starts else "ready"
        self.events.append(PoolEvent(self.started, kind, error=RuntimeError("no such module")))
        return self.started

    def submit(self, actor: int, unit: WorkUnit) -> None:
        self.tries.append(unit.key)
        kind: Any = self.script[unit.key].pop(0) if self.script.get(unit.key) else "done"
        record = Record(unit.stage, unit.key, unit.fingerprint, ()) if kind == "done" else None
        error: Exception | None = None if kind == "done" else RuntimeError(f"{unit.key} {kind}")
        if kind == "no storage":
            kind, error = "raised", StorageError("cannot write", found="OSError: no space left")
        self.events.append(PoolEvent(actor, kind, unit.key, record, error))

    def wait(self) -> PoolEvent:
        assert self.events, "waits for nobody"
        return self.events.popleft()

    def leaving(self) -> set[int]:
        return self.gone_soon

    def release(self) -> None:
        self.released = True


def units_called(*keys: str) -> list[WorkUnit]:
    return [WorkUnit("recover", key, f"unit {key}", {}, fingerprint=key) for key in keys]


def ended(pool: ScriptedPool, units: list[WorkUnit], **settings: Any) -> dict[str, Outcome]:
    count = settings.pop("num_actors", 2)
    queue = WorkQueue(pool, units, num_actors=lambda: count, **{"retries": 1} | settings)
    outcomes = list(queue.outcomes())
    assert len(outcomes) == len({outcome.unit.key for outcome in outcomes})
    assert pool.released
    return {outcome.unit.key: outcome for outcome in outcomes}


def test_every_unit_ends_once_and_actors_are_no_more_than_units() -> None:
    pool = ScriptedPool()
    assert ended(pool, units_called("a", "b", "c"), num_actors=9).keys() == {"a", "b", "c"}
    assert pool.started == 3
    assert sorted(pool.tries) == ["a", "b", "c"]


def test_a_unit_that_raises_twice_is_reported_and_its_actors_kept() -> None:
    pool = ScriptedPool({"b": ["raised", "raised"]})
    outcomes = ended(pool, units_called("a", "b", "c"))
    assert isinstance(outcomes["b"].error, RuntimeError)
    assert all(outcomes[key].record for key in "ac")
    assert pool.tries.count("b") == 2
    assert pool.started == 2


def test_a_unit_that_raises_where_there_is_one_actor_is_reported_at_once() -> None:
    pool = ScriptedPool({"b": ["raised"]})
    outcomes = ended(pool, units_called("a", "b", "c"), num_actors=1)
    assert isinstance(outcomes["b"].error, RuntimeError)
    assert pool.tries == ["a", "b", "c"]


def test_a_unit_whose_actor_died_is_tried_again_after_the_others() -> None:
    pool = ScriptedPool({"a": ["lost"]})
    outcomes = ended(pool, units_called("a", "b", "c", "d"), num_actors=1)
    assert all(outcome.record for outcome in outcomes.values())
    assert pool.tries == ["a", "b", "c", "d", "a"]
    assert pool.started == 2


def test_a_deadly_unit_is_reported_after_its_retries_and_the_others_are_done() -> None:
    pool = ScriptedPool({"b": ["lost"] * 9})
    outcomes = ended(pool, units_called("a", "b", "c"), retries=2)
    with pytest.raises(
        ResourceError, match=r"recover: the worker of unit 'unit b' died 3 times[\s\S]*b lost"
    ):
        raise outcomes["b"].error or AssertionError
    assert all(outcomes[key].record for key in "ac")
    assert pool.tries.count("b") == 3


def test_units_wait_until_min_actors_have_answered() -> None:
    pool = ScriptedPool()
    queue = WorkQueue(pool, units_called("a", "b", "c"), num_actors=lambda: 3, min_actors=3)
    assert next(iter(queue.outcomes())).record
    assert pool.started == 3
    assert pool.tries == ["a", "b", "c"]


def test_an_actor_that_does_not_start_is_replaced() -> None:
    pool = ScriptedPool(starts=["lost"])
    assert all(outcome.record for outcome in ended(pool, units_called("a", "b")).values())
    assert pool.started == 3


def test_actors_that_never_start_end_the_stage_with_the_reason() -> None:
    pool = ScriptedPool(starts=["lost"] * 9)
    with pytest.raises(ResourceError, match=r"no actor of the stage starts[\s\S]*no such module"):
        ended(pool, units_called("a", "b"))
    assert pool.started <= 4
    assert pool.released


def test_the_last_actors_death_ends_the_stage_where_no_other_starts() -> None:
    pool = ScriptedPool({"b": ["lost"]}, starts=["ready", *["lost"] * 9])
    queue = WorkQueue(pool, units_called("a", "b", "c"), num_actors=lambda: 2, retries=1)
    done = []
    with pytest.raises(ResourceError, match=r"no actor of the stage starts[\s\S]*no such module"):
        done += (outcome.unit.key for outcome in queue.outcomes())
    assert pool.tries == ["a", "b"]
    assert done == ["a"]
    assert pool.released


def test_fewer_actors_than_min_actors_go_on_where_no_other_starts() -> None:
    pool = ScriptedPool(starts=["ready", *["lost"] * 9])
    outcomes = ended(pool, units_called("a", "b"), num_actors=2, min_actors=2)
    assert all(outcome.record for outcome in outcomes.values())


def test_the_pool_is_released_when_the_caller_stops_early() -> None:
    pool = ScriptedPool()
    outcomes = WorkQueue(pool, units_called("a", "b", "c"), num_actors=lambda: 1).outcomes()
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert pool.released
    assert pool.tries != ["a", "b", "c"]


@pytest.fixture(scope="module")
def on_ray(ray_of_tests: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Outcome]]:
    """Outcomes of units that work, raise or kill their actor, on two real actors."""
    from edc_ray.cluster.driver import ray_executor

    folder = tmp_path_factory.mktemp("queue")
    context = fake_context(folder / "run", np.arange(4), cluster__retries=1)
    doings = {"a": "work", "b": "raise", "c": "kill once", "d": "kill", "e": "work", "f": "work"}
    units = fake_units(folder / "marks", "recover", **doings)
    earlier = fake_units(folder / "marks", "init", first="work")
    with ray_executor(fake_config(folder)) as execute:
        outcomes = list(execute(fake_stage("init"), context, earlier))
        outcomes += execute(fake_stage("recover"), context, units)
    assert len(outcomes) == len(units) + len(earlier)
    for unit in units:
        record = read_record(context.store, stage_folder("recover"), unit.key, unit.fingerprint)
        assert (record is not None) == (unit.key in "acef")
    return folder / "marks", {outcome.unit.key: outcome for outcome in outcomes}


def test_a_poisoned_unit_is_reported_with_its_own_error_and_the_others_are_done(
    on_ray: tuple[Path, dict[str, Outcome]],
) -> None:
    marks, outcomes = on_ray
    error = outcomes["b"].error
    assert type(error).__name__ == "NumericalError"
    assert str(error) == "unit b is poisoned\n  found:    NaN"
    assert "run_fake_unit" in "".join(error.__notes__)  # type: ignore[union-attr]
    assert tries_of(marks, "b") == 2  # another actor could have done it
    assert len({path.name.split(".")[1] for path in marks.glob("b.*")}) == 2
    assert all(outcomes[key].record for key in "aef")


def test_a_lost_actor_is_replaced_and_its_unit_is_done_once(on_ray: tuple[Path, dict[str, Outcome]]) -> None:
    marks, outcomes = on_ray
    assert outcomes["c"].record is not None
    assert tries_of(marks, "c") == 2


def test_a_unit_that_always_kills_its_actor_is_reported_after_the_retries(
    on_ray: tuple[Path, dict[str, Outcome]],
) -> None:
    marks, outcomes = on_ray
    assert isinstance(outcomes["d"].error, ResourceError)
    assert tries_of(marks, "d") == 2


def test_the_actor_of_a_stage_serves_the_next_one(on_ray: tuple[Path, dict[str, Outcome]]) -> None:
    marks, _ = on_ray
    earlier = {path.name.split(".")[1] for path in marks.glob("first.*")}
    later = {path.name.split(".")[1] for path in marks.iterdir() if not path.name.startswith("first.")}
    assert earlier
    assert earlier <= later


def test_where_storage_failed_for_long_no_further_unit_begins_and_those_at_work_end() -> None:
    pool = ScriptedPool({"b": ["no storage"]})
    outcomes = ended(pool, units_called("a", "b", "c", "d", "e"))
    assert pool.tries == ["a", "b", "c"]
    assert {key for key, one in outcomes.items() if one.record is not None} == {"a", "c"}
    assert isinstance(outcomes["b"].error, StorageError)


def test_actors_follow_a_cluster_that_grows_and_shrinks() -> None:
    room = [1]

    class Growing(ScriptedPool):
        def wait(self) -> PoolEvent:
            room[0] = 3 if len(self.tries) >= 3 else 1
            return super().wait()

    pool = Growing()
    queue = WorkQueue(pool, units_called(*"abcdefgh"), num_actors=lambda: room[0])
    assert all(outcome.record for outcome in queue.outcomes())
    assert pool.started == 3


def test_a_queue_goes_on_waiting_when_nothing_happened_for_long() -> None:
    class Slow(ScriptedPool):
        def wait(self) -> PoolEvent:
            self.ticks = not getattr(self, "ticks", False)
            return PoolEvent(0, "tick") if self.ticks else super().wait()

    assert all(outcome.record for outcome in ended(Slow(), units_called("a", "b")).values())
