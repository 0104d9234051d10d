"""Doing units in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edc_ray.artifacts.proof.manifest import read_record
from edc_ray.artifacts.storage.layout import stage_folder
from edc_ray.stages.pipeline import STAGES
from edc_ray.stages.side_by_side.execution import execute_here
from edc_ray.stages.units.completeness import planned_units
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.plan import UnitOutput, WorkUnit, do_unit


def test_a_done_unit_is_proven_by_its_record(copied: Callable[..., StageContext]) -> None:
    context = copied()
    stage = STAGES["init"]
    unit = replace(planned_units(context, stage)[0], key="again", fingerprint="0123")
    record = do_unit(context, unit, stage)
    assert read_record(context.store, stage_folder("init"), "again", "0123") == record


def test_a_failing_unit_does_not_stop_the_units_after_it(copied: Callable[..., StageContext]) -> None:
    context = copied()

    def fail_at_first(_: StageContext, unit: WorkUnit) -> UnitOutput:
        if unit.key == "first":
            raise ValueError("broken")
        return UnitOutput({"second.bin": (b"1", 1)})

    units = [WorkUnit("init", key, key, {}, "0123") for key in ("first", "second")]
    stage = replace(STAGES["init"], run_unit=fail_at_first)
    first, second = execute_here(stage, context, units)
    assert isinstance(first.error, ValueError)
    assert first.record is None
    assert second.record is not None
