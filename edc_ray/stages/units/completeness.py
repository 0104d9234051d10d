"""What is done: which units have a valid record, and whether a stage is complete."""

from __future__ import annotations

from edc_ray.artifacts.proof.manifest import manifest_is_intact, read_record
from edc_ray.artifacts.proof.records import Manifest, Record, parse_manifest
from edc_ray.artifacts.storage.layout import manifest_path, stage_folder
from edc_ray.artifacts.storage.limits import MAX_JSON_BYTES
from edc_ray.artifacts.storage.store import Store
from edc_ray.config.run import StageName
from edc_ray.digests import digest_of
from edc_ray.errors import ArtifactError
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.fingerprint import stage_fingerprint
from edc_ray.stages.units.plan import Stage, WorkUnit


def planned_units(context: StageContext, stage: Stage) -> list[WorkUnit]:
    fingerprint, units = stage_fingerprint(context.config, stage), []
    for unit in stage.plan(context):
        inputs = stage.inputs(context, unit)
        units.append(unit.fingerprinted(fingerprint, inputs, stage.content(context, unit, inputs)))
    return units


def fingerprint_of(context: StageContext, stage: Stage, units: list[WorkUnit]) -> str:
    """Fingerprint of a whole stage: its units in plan order, and how they are joined."""
    return digest_of([[unit.fingerprint for unit in units], stage.finish_inputs(context)])


def proven_records(context: StageContext, stage: Stage, units: list[WorkUnit]) -> dict[str, Record]:
    """Records of the units that are done, by unit key."""
    store, folder = context.store, stage.folder
    found = {unit.key: read_record(store, folder, unit.key, unit.fingerprint) for unit in units}
    return {key: record for key, record in found.items() if record is not None}


def stored_manifest(store: Store, stage: StageName) -> Manifest | None:
    """A stage's manifest; None if it is missing or damaged; an ArtifactError if a newer edc-ray wrote it."""
    path = manifest_path(stage_folder(stage))
    data = store.read_if_there(path, limit=MAX_JSON_BYTES)
    return None if data is None else parse_manifest(data, store.join(path))


def is_complete(context: StageContext, stage: Stage, units: list[WorkUnit]) -> bool:
    """Whether the stage has a manifest of exactly these units, and all its files are sound."""
    manifest = stored_manifest(context.store, stage.name)
    return manifest is not None and _problem_of(context, stage, manifest, units) is None


def require_complete(context: StageContext, stage: Stage) -> None:
    """Raise an ArtifactError if a stage has missing or damaged units, or units of another config or data."""
    problem = _problem_of(context, stage, context.manifest(stage.name), planned_units(context, stage))
    if problem is not None:
        raise ArtifactError(
            f"{stage.name}: the artifact in {context.store.url} is not complete",
            found=problem,
            expected="all units of this config, with the recorded bytes",
            next=f"edc-ray stage {stage.name} with the same config, or edc-ray run",
        )


def _problem_of(context: StageContext, stage: Stage, manifest: Manifest, units: list[WorkUnit]) -> str | None:
    if manifest.fingerprint != fingerprint_of(context, stage, units):
        return "it was made of other units: by another config, from other data, or for another ipc"
    if not manifest_is_intact(context.store, manifest):
        return "a file is missing or damaged; edc-ray verify names it"
    return None
