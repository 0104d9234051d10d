"""Why finished stages of a run are made again: fields, code, or what units read. Told before any work."""

from __future__ import annotations

from itertools import product
from typing import Any

from edc_ray.artifacts.proof.records import Manifest
from edc_ray.config.run import RunConfig
from edc_ray.digests import digest_of
from edc_ray.runs.growth import added_names
from edc_ray.runs.same_run import differences
from edc_ray.stages.pipeline import STAGES
from edc_ray.stages.units.completeness import fingerprint_of, planned_units, stored_manifest
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.fingerprint import stage_fingerprint, stage_inputs
from edc_ray.stages.units.plan import Stage, WorkUnit


def lines_of_made_again(context: StageContext, earlier: RunConfig | None) -> list[str]:
    """One line for each reason, with its stages; [] if classes are added: see `lines_of_more_classes`.

    `earlier` is the config that the run's folder had before.
    """
    if earlier is None or added_names(earlier, context.config):
        return []
    stages: dict[str, list[str]] = {}
    again = set[str]()
    for stage in STAGES.values():
        manifest, reasons = stored_manifest(context.store, stage.name), list[str]()
        if manifest is None:
            again.add(stage.name)
            continue
        if manifest.config_digest != stage_fingerprint(context.config, stage):
            again.add(stage.name)
            reasons = _reasons(earlier, context.config, stage, manifest.config_digest)
        elif again.intersection(one.name for one in stage.lineage):
            continue  # a stage that it builds on has the reason
        elif manifest.fingerprint != fingerprint_of(context, stage, units := planned_units(context, stage)):
            again.add(stage.name)
            reasons = _read_otherwise(units, manifest)
        for reason in reasons:
            stages.setdefault(reason, []).append(stage.name)
    return [f"{', '.join(names)}: made again, {reason}" for reason, names in stages.items()]


def _reasons(earlier: RunConfig, config: RunConfig, stage: Stage, stored: str) -> list[str]:
    """The fields that differ, and the versions of code if the config alone does not explain the digest."""
    before = stage_inputs(earlier, stage)
    found = differences(earlier, config, stage)
    reasons = [f"{name}={new} (was {old})" for name, (old, new) in found.items()]
    if digest_of(before) != stored:
        reasons += _newer_code(before, stage, stored)
    return reasons


def _newer_code(fields: dict[str, Any], stage: Stage, stored: str) -> list[str]:
    """A run stores the hash of its versions, not the versions: try the earlier ones."""
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
    """The units that read something else. New units do not count."""
    made = {record.unit: record.fingerprint for record in manifest.records}
    others = [unit for unit in units if made.get(unit.key, unit.fingerprint) != unit.fingerprint]
    named = ", ".join(unit.title for unit in others[:3]) + (", ..." if len(others) > 3 else "")
    return [f"what it reads has changed (weights, sources or images): {named}"] if others else []
