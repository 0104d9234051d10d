"""The pipeline: the order of the stages, what each needs, and what is already done. Read this file first.

squeeze -> statistics -> init -> recover -> relabel -> evaluate

A stage is cut into work units. A unit is done when its record proves it, a stage when its manifest
exists. `execute` says where units run: `execute_here` does them one after the other in this process,
`edc_ray.cluster.driver` on Ray. Nothing else differs between the two.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from edc_ray.artifacts.layout import STAGE_FOLDERS, manifest_path
from edc_ray.artifacts.manifest import manifest_is_intact, read_record, write_manifest, write_unit
from edc_ray.artifacts.records import Manifest, Record, parse_manifest
from edc_ray.config.run import StageName, digest_of
from edc_ray.errors import ArtifactError, UnitsFailedError
from edc_ray.stages import collect_statistics, evaluate, init_images, recover, relabel, squeeze
from edc_ray.stages.context import StageContext
from edc_ray.stages.numerics import unit_numerics
from edc_ray.stages.plan import Execute, Outcome, Stage, WorkUnit
from edc_ray.stages.provenance import environment_facts

STAGES: dict[StageName, Stage] = {
    stage.name: stage
    for stage in (
        squeeze.STAGE,
        collect_statistics.STAGE,
        init_images.STAGE,
        recover.STAGE,
        relabel.STAGE,
        evaluate.STAGE,
    )
}

OnEvent = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class StageReport:
    """What a call did for one stage."""

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
    """Bring the named stages to completion, in order; what is complete is left alone.

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
            if needed not in wanted:
                require_complete(context, STAGES[needed])
        reports.append(run_stage(context, stage, execute or execute_here, on_event))
    return reports


def run_stage(context: StageContext, stage: Stage, execute: Execute, on_event: OnEvent) -> StageReport:
    """Do the units of one stage that no record proves, then put them together under a manifest."""
    started = time.monotonic()
    folder = STAGE_FOLDERS[stage.name]
    for needed in stage.needs:
        context.manifest(needed)
    units = planned_units(context, stage)
    whole = _fingerprint_of(units)
    manifest = _own_manifest(context, folder)
    if manifest is not None and _problem_of(context, manifest, whole) is None:
        report = StageReport(stage.name, time.monotonic() - started, 0, len(units))
        on_event({"event": "stage_reused", **asdict(report)})
        return report

    records: dict[str, Record] = {}
    for unit in units:
        record = read_record(context.store, folder, unit.key, unit.fingerprint)
        if record is not None:
            records[unit.key] = record
    missing = [unit for unit in units if unit.key not in records]
    reused = len(records)
    on_event({"event": "stage_started", "stage": stage.name, "units": len(units), "reused": reused})
    failures: list[Outcome] = []
    for outcome in execute(stage, context, missing) if missing else ():
        if outcome.record is not None:
            records[outcome.unit.key] = outcome.record
        else:
            failures.append(outcome)
        on_event(_unit_event(outcome))
    if failures:
        failed = StageReport(stage.name, time.monotonic() - started, len(missing) - len(failures), reused)
        on_event({"event": "stage_failed", **asdict(failed)})
        raise _units_failed(stage, units, failures)

    named, meta = stage.finish(context, [records[unit.key] for unit in units])
    dataset = context.config.dataset
    write_manifest(
        context.store, folder, named, fingerprint=whole, config_digest=context.config.fingerprint(stage.name),
        dataset={"name": dataset.name, "class_names": list(dataset.class_names or ())},
        meta=meta, environment=environment_facts(context.device),
    )  # fmt: skip
    context.forget_manifest(stage.name)
    report = StageReport(stage.name, time.monotonic() - started, len(missing), reused)
    on_event({"event": "stage_done", **asdict(report), "meta": meta})
    return report


def require_complete(context: StageContext, stage: Stage) -> None:
    """Refuse to build on a stage of which units are missing, damaged or made by another config or data.

    Raises:
        ArtifactError: it is not complete.
    """
    manifest = context.manifest(stage.name)
    problem = _problem_of(context, manifest, _fingerprint_of(planned_units(context, stage)))
    if problem is not None:
        raise ArtifactError(
            f"{stage.name}: the artifact in {context.store.url} is not complete",
            found=problem,
            expected="all units of this config, with the recorded bytes",
            next=f"edc-ray stage {stage.name} with the same config, or edc-ray run",
        )


def _own_manifest(context: StageContext, folder: str) -> Manifest | None:
    """The manifest of the stage that is run: a damaged one counts as none, for it is about to be made."""
    path = manifest_path(folder)
    if not context.store.exists(path):
        return None
    return parse_manifest(context.store.read(path), context.store.join(path))


def _fingerprint_of(units: list[WorkUnit]) -> str:
    return digest_of([unit.fingerprint for unit in units])


def _problem_of(context: StageContext, manifest: Manifest, fingerprint: str) -> str | None:
    if manifest.fingerprint != fingerprint:
        return "it was made of other units: by another config, from other data, or for another ipc"
    if not manifest_is_intact(context.store, manifest):
        return "a file is missing or damaged; edc-ray verify names it"
    return None


def planned_units(context: StageContext, stage: Stage) -> list[WorkUnit]:
    """The stage's units with their fingerprints."""
    fingerprint = context.config.fingerprint(stage.name)
    return [unit.fingerprinted(fingerprint, stage.inputs(context, unit)) for unit in stage.plan(context)]


def do_unit(context: StageContext, unit: WorkUnit, stage: Stage | None = None) -> Record:
    """Run one unit and store its shards, then its record. The same call in every mode."""
    started = time.monotonic()
    with unit_numerics(context):
        output = (stage or STAGES[unit.stage]).run_unit(context, unit)
    return write_unit(
        context.store, STAGE_FOLDERS[unit.stage], unit.key, unit.fingerprint, dict(output.shards),
        dict(output.meta), time.monotonic() - started,
    )  # fmt: skip


def execute_here(stage: Stage, context: StageContext, units: list[WorkUnit]) -> Iterator[Outcome]:
    """One unit after the other in this process; a failing unit does not stop the others."""
    for unit in units:
        try:
            yield Outcome(unit, record=do_unit(context, unit, stage))
        except Exception as error:
            yield Outcome(unit, error=error)


def _unit_event(outcome: Outcome) -> dict[str, Any]:
    unit, record = outcome.unit, outcome.record
    event: dict[str, Any] = {"event": "unit_done", "stage": unit.stage, "unit": unit.key, "title": unit.title}
    if record is None:
        return event | {"event": "unit_failed", "error": f"{type(outcome.error).__name__}: {outcome.error}"}
    return event | {"seconds": round(record.seconds, 3), "curves": record.meta.get("curves", {})}


def _units_failed(stage: Stage, units: list[WorkUnit], failures: list[Outcome]) -> Exception:
    listed = "\n".join(
        f"    {one.unit.title}: {type(one.error).__name__}: {one.error}" for one in failures[:10]
    )
    return UnitsFailedError(
        f"{stage.name}: {len(failures)} of {len(units)} units failed; the others are done and kept",
        found="\n" + listed,
        next="mend the cause and run the same command again: only the failed units are made",
    )
