"""The pipeline: the order of the stages, what each needs, and what is already done. Read this file first.

squeeze -> statistics -> init -> recover -> relabel -> evaluate

The sections of `edc_ray.config.run.RunConfig` have this order. A stage's facts are its `Stage`, in its
folder's stage.py. A stage is cut into work units. A unit is done when it has a valid record, a stage when it
has a manifest. `execute` says where units run: `execute_here` runs them in this process,
`edc_ray.cluster.driver` on Ray. Nothing else differs between the two.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

from edc_ray.artifacts.proof.manifest import remove_unnamed, write_manifest
from edc_ray.artifacts.storage.layout import READ_BY_FOLDER
from edc_ray.config.run import STAGE_NAMES, StageName
from edc_ray.errors import StorageError, UnitsFailedError, plural
from edc_ray.stages.side_by_side.execution import execute_here
from edc_ray.stages.units.completeness import (
    fingerprint_of,
    is_complete,
    planned_units,
    proven_records,
    require_complete,
)
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.fingerprint import stage_fingerprint
from edc_ray.stages.units.kept_units import kept_records
from edc_ray.stages.units.plan import Execute, Outcome, Stage
from edc_ray.stages.units.provenance import joined_facts

STAGES: dict[StageName, Stage] = {
    name: import_module(f"edc_ray.stages.{name}.stage").STAGE for name in STAGE_NAMES
}

OnEvent = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class StageReport:
    stage: StageName
    seconds: float
    units_done: int
    units_reused: int


def run_pipeline(
    context: StageContext,
    stages: Iterable[StageName] = tuple(STAGES),
    *,
    execute: Execute | None = None,
    on_event: OnEvent = lambda event: None,
) -> list[StageReport]:
    """Complete the named stages, in order. Complete stages are left alone.

    Raises:
        ArtifactError: a stage that is needed and not named is not complete.
        UnitsFailedError: some units failed; the others of that stage are done and recorded.
    """
    wanted = set(stages)
    reports = []
    for name, stage in STAGES.items():
        if name not in wanted:
            continue
        for needed in stage.needs:
            if needed.name not in wanted:
                require_complete(context, needed)
        reports.append(run_stage(context, stage, execute or execute_here, on_event))
    return reports


def run_stage(context: StageContext, stage: Stage, execute: Execute, on_event: OnEvent) -> StageReport:
    """Run the units of one stage that have no valid record, then write its manifest."""
    started = time.monotonic()
    for needed in stage.needs:
        context.manifest(needed.name)
    units = planned_units(context, stage)

    def reported(kind: str, done: int, reused: int, **facts: Any) -> StageReport:
        report = StageReport(stage.name, time.monotonic() - started, done, reused)
        on_event({"event": kind, **asdict(report), **facts})
        return report

    if is_complete(context, stage, units):
        return reported("stage_reused", 0, len(units))
    # Its manifest and those of stages built on it say that its earlier results are here. Records do not.
    for built_on_it in reversed(STAGES.values()):
        if stage.name in [one.name for one in built_on_it.lineage]:
            context.withdraw_manifest(built_on_it.name)
    records = proven_records(context, stage, units)
    records |= kept_records(context, stage, [unit for unit in units if unit.key not in records])
    missing, reused = [unit for unit in units if unit.key not in records], len(records)
    on_event({"event": "stage_started", "stage": stage.name, "units": len(units), "reused": reused})
    failures: list[Outcome] = []
    for outcome in execute(stage, context, missing) if missing else ():
        if outcome.record is not None:
            records[outcome.unit.key] = outcome.record
        else:
            failures.append(outcome)
        on_event(_unit_event(outcome, stage.images(context, outcome.unit)))
    if failures:
        done = len(records) - reused
        reported("stage_failed", done, reused)
        for one in failures:
            if isinstance(one.error, StorageError):
                raise _storage_failed(stage, one.error, f"{len(records)} of {plural(len(units), 'unit')}")
        raise _units_failed(stage, len(units), failures)
    named, meta = stage.finish(context, [records[unit.key] for unit in units])
    if stage.folder in READ_BY_FOLDER:
        # Before the manifest: a killed run repeats this, a complete one does not.
        remove_unnamed(context.store, stage.folder, named)
    dataset = context.config.dataset
    write_manifest(
        context.store, stage.folder, named, fingerprint=fingerprint_of(context, stage, units),
        config_digest=stage_fingerprint(context.config, stage), meta=meta,
        dataset={"name": dataset.name, "class_names": list(dataset.class_names or ())},
        environment=joined_facts(record.environment for record in records.values()),
    )  # fmt: skip
    context.forget_manifest(stage.name)
    return reported("stage_done", len(missing), reused, meta=meta)


def _unit_event(outcome: Outcome, images: int) -> dict[str, Any]:
    unit, record = outcome.unit, outcome.record
    event: dict[str, Any] = {"event": "unit_done", "stage": unit.stage, "unit": unit.key, "title": unit.title}
    if record is None:
        return event | {"event": "unit_failed", "error": f"{type(outcome.error).__name__}: {outcome.error}"}
    facts = {"seconds": round(record.seconds, 3), "images": images, "curves": record.meta.get("curves", {})}
    held = {name: record.meta[name] for name in ("device_bytes",) if name in record.meta}
    return event | facts | held


def _storage_failed(stage: Stage, error: StorageError, kept: str) -> StorageError:
    return StorageError(
        f"{stage.name}: {error.summary}",
        found=error.found,
        expected="storage that works, or works again within storage.patience_seconds",
        next=f"run the same command when it does; {kept} of {stage.name} are kept",
    )


def _units_failed(stage: Stage, num_units: int, failures: list[Outcome]) -> Exception:
    lines = [f"    {one.unit.title}: {type(one.error).__name__}: {one.error}" for one in failures[:10]]
    return UnitsFailedError(
        f"{stage.name}: {len(failures)} of {plural(num_units, 'unit')} failed; the others are done and kept",
        found="\n" + "\n".join(lines),
        next="fix the cause and run the same command again: only the failed units are made",
    )
