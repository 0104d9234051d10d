"""Units in this process: several at once, alone, out of memory, without their device, interrupted."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from edc_ray.artifacts.storage.patience import patiently
from edc_ray.config.load import with_fields
from edc_ray.errors import ConfigError, DeviceError, NumericalError, ResourceError, StorageError
from edc_ray.stages.pipeline import STAGES, run_stage
from edc_ray.stages.side_by_side.execution import DeviceMemory, SideBySide, execute_here, trainings_at_once
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.plan import Outcome, Stage, UnitOutput, WorkUnit
from tests.cluster.fake_stage import fake_config, fake_context, fake_stage, fake_units

SECONDS = 60.0
LOST = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronous"


def stage_of(run_unit: Callable[[StageContext, WorkUnit], Any], **facts: Any) -> Stage:
    def run(context: StageContext, unit: WorkUnit) -> UnitOutput:
        run_unit(context, unit)
        return UnitOutput({f"{unit.key}.txt": (unit.key.encode(), 1)})

    return replace(fake_stage("squeeze"), run_unit=run, trains=True, **facts)


def ended(folder: Path, stage: Stage, keys: str, at_once: int = 3) -> dict[str, Outcome]:
    context = fake_context(folder / "run", np.arange(4), cluster__trainings_per_actor=at_once)
    units = fake_units(folder / "marks", "squeeze", **dict.fromkeys(keys, "work"))
    outcomes = list(execute_here(stage, context, units))
    assert len(outcomes) == len(units)
    return {outcome.unit.key: outcome for outcome in outcomes}


def test_trainings_run_at_the_same_time_and_a_failing_one_stops_no_other(tmp_path: Path) -> None:
    together = threading.Barrier(3)

    def train(context: StageContext, unit: WorkUnit) -> None:
        together.wait(SECONDS)
        if unit.key == "b":
            raise NumericalError("b is poisoned")

    outcomes = ended(tmp_path, stage_of(train), "abc")
    assert isinstance(outcomes["b"].error, NumericalError)
    assert outcomes["a"].record
    assert outcomes["c"].record


@pytest.mark.parametrize("at_once", [1, 2])
def test_where_storage_failed_for_long_no_further_unit_begins(tmp_path: Path, at_once: int) -> None:
    begun: list[str] = []

    def run_unit(context: StageContext, unit: WorkUnit) -> None:
        begun.append(unit.key)
        if unit.key == "b":
            raise StorageError("cannot write", found="OSError: no space left")
        time.sleep(0.2)

    context = fake_context(tmp_path / "run", np.arange(4), cluster__trainings_per_actor=at_once)
    units = fake_units(tmp_path / "marks", "squeeze", **dict.fromkeys("abcdefgh", "work"))
    outcomes = {one.unit.key: one for one in execute_here(stage_of(run_unit), context, units)}
    assert isinstance(outcomes["b"].error, StorageError)
    assert len(begun) <= 2 + at_once
    assert all(one.error is None for key, one in outcomes.items() if key != "b")


@pytest.mark.parametrize("ends", [KeyboardInterrupt, GeneratorExit])
def test_an_interrupted_process_waits_for_no_storage(tmp_path: Path, ends: type[BaseException]) -> None:
    waits = threading.Event()

    def fail() -> None:
        waits.set()
        raise StorageError("cannot write", found="OSError: no space left")

    def run_unit(context: StageContext, unit: WorkUnit) -> None:
        if unit.key == "b":
            patiently(60, fail)

    context = fake_context(tmp_path / "run", np.arange(4), cluster__trainings_per_actor=2)
    units = fake_units(tmp_path / "marks", "squeeze", a="work", b="work")
    outcomes = cast(Generator[Outcome], execute_here(stage_of(run_unit), context, units))
    assert next(outcomes).unit.key == "a"
    assert waits.wait(SECONDS)
    begun = time.monotonic()
    with pytest.raises(ends):
        outcomes.throw(ends)
    assert time.monotonic() - begun < 10


def test_no_more_than_the_config_says_run_at_the_same_time(tmp_path: Path) -> None:
    now, most = Counter[str](), []

    def train(context: StageContext, unit: WorkUnit) -> None:
        now[unit.key] += 1
        most.append(now.total())
        time.sleep(0.05)
        del now[unit.key]

    assert all(outcome.record for outcome in ended(tmp_path, stage_of(train), "abcdef", 2).values())
    assert max(most) == 2


def test_a_unit_that_goes_on_alone_has_the_process_for_itself(tmp_path: Path) -> None:
    together, beside, now = threading.Barrier(3), [], set[str]()

    def train(context: StageContext, unit: WorkUnit) -> None:
        if unit.key in "abc":
            together.wait(SECONDS)
        if unit.key == "b":
            context.seat.go_on_alone()
        now.add(unit.key)
        for _ in range(10):
            time.sleep(0.005)
            if "b" in now:
                beside.append(set(now))
        now.remove(unit.key)

    ended(tmp_path, stage_of(train), "abcdef")
    assert beside == [{"b"}] * 10


def test_what_trainings_share_is_made_once_before_the_first_begins(tmp_path: Path) -> None:
    made: list[str] = []

    def prepare(context: StageContext) -> None:
        time.sleep(0.05)
        made.append("prepared")

    ended(tmp_path, stage_of(lambda context, unit: made.append(unit.key), prepare=prepare), "abc")
    assert made[0] == "prepared"
    assert sorted(made[1:]) == ["a", "b", "c"]


def test_a_training_without_memory_beside_others_is_done_alone_afterwards(tmp_path: Path) -> None:
    together, tries = threading.Barrier(3), Counter[str]()

    def train(context: StageContext, unit: WorkUnit) -> None:
        tries[unit.key] += 1
        if tries[unit.key] == 1:
            together.wait(SECONDS)
        if not context.seat.alone and unit.key == "b":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    assert all(outcome.record for outcome in ended(tmp_path, stage_of(train), "abc").values())
    assert tries == {"a": 1, "b": 2, "c": 1}


def test_only_a_unit_alone_divides_its_batches(tmp_path: Path) -> None:
    together, seen = threading.Barrier(2), list[int]()

    def judge(context: StageContext, unit: WorkUnit) -> None:
        def network(images: torch.Tensor) -> torch.Tensor:
            if not context.seat.alone or len(images) > 4:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            seen.append(len(images))
            return images

        if not context.seat.alone:
            together.wait(SECONDS)
        context.at_once.forward("accuracy", "a network", network, torch.zeros(8, 1))

    with pytest.warns(UserWarning, match="now sees 4 at a time"):
        outcomes = ended(tmp_path, stage_of(judge), "ab", 2)
    assert all(outcome.record for outcome in outcomes.values())
    assert seen == [4, 4, 4, 4]


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_training_without_memory_alone_says_which_fields_help(tmp_path: Path, at_once: int) -> None:
    tries = Counter[str]()

    def train(context: StageContext, unit: WorkUnit) -> None:
        tries[unit.key] += 1
        if unit.key == "a":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    outcomes = ended(tmp_path, stage_of(train), "a", at_once)
    with pytest.raises(
        ResourceError, match=r"'unit a'[\s\S]*Tried to allocate 2.00 GiB\.\n[\s\S]*next"
    ) as caught:
        raise outcomes["a"].error or AssertionError
    assert "squeeze.batch_size" in str(caught.value)
    assert ("cluster.trainings_per_actor=1" in str(caught.value)) == (at_once > 1)
    assert tries["a"] == 1


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_lost_device_ends_the_stage_and_the_same_command_goes_on(tmp_path: Path, at_once: int) -> None:
    begun: list[str] = []

    def train(context: StageContext, unit: WorkUnit) -> None:
        begun.append(unit.key)
        if unit.key == "c" and begun.count("c") == 1:
            raise RuntimeError(LOST)
        while at_once == 3 and unit.key in "de" and begun.count("c") == 1:
            time.sleep(0.001)
            context.seat.step_done()

    stage = stage_of(train)
    context = fake_context(tmp_path / "run", np.arange(4), cluster__trainings_per_actor=at_once)
    units = fake_units(tmp_path / "marks", "squeeze", **dict.fromkeys("abcdefgh", "work"))
    stage = replace(stage, plan=lambda context: units)
    with pytest.raises(
        DeviceError,
        match=r"squeeze: the device \(.*cpu.*\) failed in unit 'unit c': RuntimeError: CUDA error",
    ) as caught:
        run_stage(context, stage, execute_here, lambda event: None)
    assert "\nCUDA kernel" not in str(caught.value)
    assert "run the same command again: finished units are kept" in str(caught.value)
    first, begun[:] = set(begun), ["c"]
    assert not first & {"g", "h"}
    report = run_stage(context, stage, execute_here, lambda event: None)
    assert report.units_reused >= 2
    assert report.units_done + report.units_reused == 8
    assert set(begun).isdisjoint("ab")


def test_whoever_stops_early_waits_for_a_step_and_not_for_whole_trainings(tmp_path: Path) -> None:
    ends = Counter[str]()

    def train(context: StageContext, unit: WorkUnit) -> None:
        try:
            while unit.key != "a":
                time.sleep(0.001)
                context.seat.step_done()
        finally:
            ends[unit.key] += 1

    context = fake_context(tmp_path / "run", np.arange(4), cluster__trainings_per_actor=3)
    units = fake_units(tmp_path / "marks", "squeeze", **dict.fromkeys("abcdef", "work"))
    outcomes = execute_here(stage_of(train), context, units)
    assert next(outcomes).unit.key == "a"
    outcomes.close()  # type: ignore[attr-defined]
    assert ends.keys() <= set("abcd")
    assert threading.active_count() == 1 or not [
        one for one in threading.enumerate() if one.name.startswith("training")
    ]


def test_how_many_trainings_a_process_does_follows_stage_device_and_config(tmp_path: Path) -> None:
    squeeze, config = STAGES["squeeze"], fake_config(tmp_path)
    assert {name for name, stage in STAGES.items() if stage.trains} == {"squeeze", "evaluate"}
    assert trainings_at_once(squeeze, config, "cpu") == 1
    assert trainings_at_once(squeeze, config, "mps") == 1
    assert trainings_at_once(squeeze, config, "cuda") == 8
    assert trainings_at_once(STAGES["recover"], config, "cuda") == 1
    for fields, expected in (
        ({"cluster.trainings_per_actor": 3}, 3),
        ({"cluster.trainings_per_actor": 1}, 1),
        ({"cluster.gpus_per_actor": 0.25}, 2),
        ({"cluster.gpus_per_actor": 0.01}, 1),
        ({"cluster.gpus_per_actor": 2}, 8),
        ({"squeeze.num_workers": 2}, 1),
        ({"compile": "default"}, 1),
        ({"compile": "none"}, 8),
    ):
        assert trainings_at_once(squeeze, with_fields(config, fields), "cuda") == expected, fields
    assert trainings_at_once(squeeze, with_fields(config, {"cluster.trainings_per_actor": 3}), "cpu") == 3


@pytest.mark.parametrize("value", [0, 9, "many", True])
def test_a_number_of_trainings_that_no_process_does_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(ConfigError, match=r"trainings_per_actor"):
        fake_config(tmp_path, cluster__trainings_per_actor=value)


def test_memory_decides_how_many_begin(tmp_path: Path) -> None:
    class Memory:
        held = 0.0

        def free(self) -> float:
            return 100 - self.held

        def give_back(self) -> None:
            self.held -= 40

    memory, now, most = Memory(), set[str](), []

    def train(context: StageContext, unit: WorkUnit) -> None:
        now.add(unit.key)
        memory.held += 40
        for _ in range(20):
            time.sleep(0.005)
            most.append(len(now))
            context.seat.step_done()
        now.remove(unit.key)

    context = fake_context(tmp_path / "run", np.arange(4), cluster__trainings_per_actor=8)
    units = fake_units(tmp_path / "marks", "squeeze", **dict.fromkeys("abcdef", "work"))
    side = SideBySide(stage_of(train), context, memory)
    threads = [threading.Thread(target=side.do, args=(unit,)) for unit in units]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert max(most) == 2, "a third needs 48 of the 20 that are free"


@pytest.mark.gpu
def test_the_memory_of_a_device_is_what_nobody_holds_and_comes_back() -> None:
    device = torch.device("cuda")
    memory = DeviceMemory(device)
    memory.give_back()
    before, size = memory.free(), 1 << 28
    held = torch.zeros(size, dtype=torch.uint8, device=device)
    assert before - memory.free() >= size
    del held
    assert before - memory.free() >= size, "torch keeps it"
    memory.give_back()
    assert memory.free() == before
