"""Trainings at the same time in one process: every byte that they store is that of one after the other."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from edc_ray.artifacts.proof.records import Record
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.side_by_side import execution
from edc_ray.stages.side_by_side.admission import SharedSeat
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.plan import Stage, WorkUnit, do_unit
from tests.stages.side_by_side import drops_out
from tests.stages.tiny_runs import tiny_context

SECONDS = 60.0


NETWORKS = ["convnet_d1", "convnet_d2", f"{drops_out.__name__}:DropsOut"]
FIELDS: dict[str, Any] = {
    "squeeze__observers": NETWORKS,
    "squeeze__epochs": 2,
    "recover__iterations": 2,
    "relabel__epochs": 2,
    "evaluate__students": NETWORKS,
    "evaluate__rows": ["init", "random"],
    "evaluate__seeds": 1,
    "evaluate__save_students": True,
}


def stored(context: StageContext) -> dict[str, str]:
    """All that units stored, and what their records say, but not when it was."""
    found = {}
    for stage in ("squeeze", "evaluate"):
        for record in context.manifest(stage).records:
            found |= {f"{stage}/{shard.path}": shard.sha256 for shard in record.shards}
            found[f"{stage}/{record.unit}"] = f"{record.fingerprint} {sorted(record.meta.items())}"
    return found


@pytest.fixture(scope="module")
def one_after_the_other() -> dict[str, str]:
    context = tiny_context(**FIELDS, cluster__trainings_per_actor=1)
    run_pipeline(context)
    return stored(context)


def test_trainings_at_the_same_time_store_the_bytes_of_one_after_the_other(
    one_after_the_other: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three begin together. The two that draw nothing wait for each other after each step."""
    begin, step = threading.Barrier(3), threading.Barrier(2)
    begun, steps, step_done = list[str](), list[bool](), SharedSeat.step_done

    def do_together(context: StageContext, unit: WorkUnit, stage: Stage) -> Record:
        begun.append(unit.stage)
        if stage.trains and begun.count(unit.stage) <= 3:
            begin.wait(SECONDS)
        return do_unit(context, unit, stage)

    def step_together(seat: SharedSeat) -> None:
        steps.append(seat.alone)
        if not seat.alone:
            step.wait(SECONDS)
        step_done(seat)

    context = tiny_context(**FIELDS, cluster__trainings_per_actor=3)
    monkeypatch.setattr(SharedSeat, "step_done", step_together)
    monkeypatch.setattr(execution, "do_unit", do_together)
    run_pipeline(context)
    assert stored(context) == one_after_the_other
    assert len(one_after_the_other) == 3 * 2 + 6 * 4
    assert steps.count(False) > 10
    assert steps.count(True) > 10
