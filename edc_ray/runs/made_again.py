"""Why finished stages of a run are made again, told before any work: fields, code, or what units read."""

from __future__ import annotations

from itertools import product
from typing import Any

from edc_ray.artifacts.proof.records import Manifest, parse_manifest
from edc_ray.artifacts.storage.layout import manifest_path
from edc_ray.artifacts.storage.limits import MAX_JSON_BYTES
from edc_ray.config.run import RunConfig
from edc_ray.digests import digest_of
from edc_ray.runs.growth import added_names
from edc_ray.runs.same_run import differences
from edc_ray.stages.pipeline import STAGES
from edc_ray.stages.units.completeness import fingerprint_of, planned_units
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.fingerprint import stage_fingerprint, stage_inputs
from edc_ray.stages.units.plan import Stage, WorkUnit


def lines_of_made_again(context: StageContext, earlier: RunConfig | None) -> list[str]:
    """One line for each reason, with the stages that it makes again.

    Args:
        context: opened; its units are not begun.
        earlier: the config that the run's folder held before.

    Returns:
        [] where nothing is made again, or classes are added, which `lines_of_more_classes` tells.
    """
    if earlier is None or added_names(earlier, context.config):
        return []
    stages: dict[str, list[str]] = {}
    again = set[Stage]()
    for stage in STAGES.values():
        manifest, reasons = _manifest(context, stage), list[str]()
        if manifest is None:
            again.add(stage)
            continue
        if manifest.config_digest != stage_fingerprint(context.config, stage):
            again.add(stage)
            reasons = _reasons(earlier, context.config, stage, manifest.config_digest)
        elif again.intersection(stage.lineage):
            continue  # the reason is told of the stage that it builds on
        elif manifest.fingerprint != fingerprint_of(context, stage, units := planned_units(context, stage)):
            again.add(stage)
            reasons = _read_otherwise(units, manifest)
        for reason in reasons:
            stages.setdefault(reason, []).append(stage.name)
    return [f"{', '.join(names)}: made again, {reason}" for reason, names in stages.items()]


def _reasons(earlier: RunConfig, config: RunConfig, stage: Stage, stored: str) -> list[str]:
    """The fields that differ, and the versions of code where a config alone does not explain the digest."""
    before = stage_inputs(earlier, stage)
    found = differences(earlier, config, stage)
    reasons = [f"{name}={new} (was {old})" for name, (old, new) in found.items()]
    if digest_of(before) != stored:
        reasons += _newer_code(before, stage, stored)
    return reasons


def _newer_code(fields: dict[str, Any], stage: Stage, stored: str) -> list[str]:
    """A run tells the hash of its versions, not the versions: they are found by trying the earlier ones."""
    lineage = stage.lineage
    for versions in product(*(range(one.version, 0, -1) for one in lineage)):
        if digest_of(fields | {"code_version": list(versions)}) == stored:
            pairs = zip(lineage, versions, strict=True)
            return [
                f"version of the code of {one.name}={one.version} (was {version})"
                for one, version in pairs
                if version != one.version
            ]
    return ["the code that made it, whose version is unknown here"]


def _read_otherwise(units: list[WorkUnit], manifest: Manifest) -> list[str]:
    """Nothing is said of units that are new."""
    made = {record.unit: record.fingerprint for record in manifest.records}
    others = [unit for unit in units if made.get(unit.key, unit.fingerprint) != unit.fingerprint]
    named = ", ".join(unit.title for unit in others[:3]) + (", ..." if len(others) > 3 else "")
    return [f"what it reads has changed (weights, sources or images): {named}"] if others else []


def _manifest(context: StageContext, stage: Stage) -> Manifest | None:
    path = manifest_path(stage.folder)
    data = context.store.read_if_there(path, limit=MAX_JSON_BYTES)
    return None if data is None else parse_manifest(data, context.store.join(path))
