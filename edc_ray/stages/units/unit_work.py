"""Running a work unit, the same way in every mode, and running several in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator

from edc_ray.artifacts.proof.manifest import write_unit
from edc_ray.artifacts.proof.records import Record
from edc_ray.artifacts.storage.layout import stage_folder
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.kept_units import CONTENT
from edc_ray.stages.units.numerics import unit_numerics
from edc_ray.stages.units.plan import Outcome, Stage, WorkUnit
from edc_ray.stages.units.provenance import environment_facts


def do_unit(context: StageContext, unit: WorkUnit, stage: Stage) -> Record:
    """Run one unit and store its shards, then its record."""
    started = time.monotonic()
    with unit_numerics(context.config, context.device):
        output = stage.run_unit(context, unit)
    meta = dict(output.meta) | ({CONTENT: unit.content} if unit.content else {})
    return write_unit(
        context.store, stage_folder(unit.stage), unit.key, unit.fingerprint, dict(output.shards),
        meta, time.monotonic() - started, environment=environment_facts(context.device),
    )  # fmt: skip


def execute_here(stage: Stage, context: StageContext, units: list[WorkUnit]) -> Iterator[Outcome]:
    """Run units one after the other in this process. A failing unit does not stop the others."""
    for unit in units:
        try:
            yield Outcome(unit, record=do_unit(context, unit, stage))
        except Exception as error:
            yield Outcome(unit, error=error)
