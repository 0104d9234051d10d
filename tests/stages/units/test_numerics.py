"""Threads, determinism and random state around a unit."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from edc_ray.config.load import with_fields
from edc_ray.stages.pipeline import STAGES, run_pipeline
from edc_ray.stages.units import unit_work
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.numerics import unit_numerics
from edc_ray.stages.units.plan import UnitOutput, WorkUnit
from edc_ray.stages.units.unit_work import do_unit
from tests.stages.tiny_runs import tiny_context, units_of


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _with_threads(context: StageContext, threads: int) -> StageContext:
    config = with_fields(context.config, {"cluster.threads_per_unit": threads, "deterministic": True})
    return StageContext(config, context.store, context.data, context.device)


@pytest.mark.usefixtures("two_threads")
def test_a_unit_has_the_threads_of_the_config_and_the_process_its_own_afterwards(
    finished: StageContext,
) -> None:
    with unit_numerics(_with_threads(finished, 3)):
        assert torch.get_num_threads() == 3
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 2
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.usefixtures("two_threads")
def test_a_failing_unit_leaves_the_process_as_it_was(finished: StageContext) -> None:
    def fail() -> None:
        with unit_numerics(_with_threads(finished, 3)):
            torch.manual_seed(5)
            raise RuntimeError("in the unit")

    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="in the unit"):
        fail()
    assert torch.get_num_threads() == 2
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.usefixtures("two_threads")
def test_every_stage_runs_its_units_with_the_threads_of_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[int]] = {}

    def watched(context: StageContext, unit: WorkUnit) -> UnitOutput:
        seen.setdefault(unit.stage, set()).add(torch.get_num_threads())
        return STAGES[unit.stage].run_unit(context, unit)

    def do_watched(context: StageContext, unit: WorkUnit, stage: object = None) -> object:
        from dataclasses import replace

        return do_unit(context, unit, replace(STAGES[unit.stage], run_unit=watched))

    monkeypatch.setattr(unit_work, "do_unit", do_watched)
    run_pipeline(tiny_context(evaluate__seeds=1, evaluate__rows=["condensed"], relabel__epochs=1))
    assert seen == {stage: {1} for stage in STAGES}
    assert torch.get_num_threads() == 2


def test_a_whole_run_neither_reads_nor_changes_the_random_state_of_the_process() -> None:
    hashes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        before = (torch.get_rng_state(), np.random.get_state(), random.getstate())
        context = tiny_context(evaluate__seeds=1, relabel__epochs=2)
        run_pipeline(context)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert all(
            np.array_equal(new, old) for new, old in zip(np.random.get_state(), before[1], strict=True)
        )
        assert random.getstate() == before[2]
        hashes.append([u.fingerprint for u in units_of(context, "evaluate")] + _shards(context))
    assert hashes[0] == hashes[1]


def _shards(context: StageContext) -> list[str]:
    return [shard.sha256 for stage in STAGES for shard in context.manifest(stage).shards]
