"""What counts as done. The behaviour of whole stages is in test_pipeline."""

from __future__ import annotations

from edc_ray.stages.pipeline import STAGES
from edc_ray.stages.units.completeness import fingerprint_of, is_complete, planned_units, proven_records
from edc_ray.stages.units.context import StageContext


def test_a_finished_stage_is_complete_and_all_its_units_are_proven(finished: StageContext) -> None:
    for stage in STAGES.values():
        units = planned_units(finished, stage)
        assert is_complete(finished, stage, units)
        assert set(proven_records(finished, stage, units)) == {unit.key for unit in units}


def test_a_stage_of_fewer_units_than_its_manifest_is_not_complete(finished: StageContext) -> None:
    stage = STAGES["recover"]
    units = planned_units(finished, stage)
    assert len(units) > 1
    assert not is_complete(finished, stage, units[:-1])


def test_the_fingerprint_of_a_stage_depends_on_the_order_of_its_units(finished: StageContext) -> None:
    stage = STAGES["recover"]
    units = planned_units(finished, stage)
    assert fingerprint_of(finished, stage, units) != fingerprint_of(finished, stage, units[::-1])
