"""What a run makes again, and why: fields, code, what units read, or added classes. Told before any work."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

from edc_ray.artifacts.proof.records import Manifest
from edc_ray.artifacts.storage.layout import records_folder, stage_folder
from edc_ray.config.run import STAGE_NAMES, RunConfig, StageName
from edc_ray.digests import digest_of
from edc_ray.runs.growth import added_names, observers_choose, some
from edc_ray.runs.same_run import differences
from edc_ray.stages.pipeline import STAGES
from edc_ray.stages.recover.stage import content_before_init, slots_of
from edc_ray.stages.units.completeness import fingerprint_of, planned_units, stored_manifest
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.fingerprint import stage_fingerprint, stage_inputs
from edc_ray.stages.units.image_shards import Slot
from edc_ray.stages.units.kept_units import earlier_record
from edc_ray.stages.units.plan import Stage, WorkUnit


def lines_of_made_again(context: StageContext, earlier: RunConfig | None) -> list[str]:
    """One line for each reason; [] if classes are added. `earlier`: the config that the folder had before."""
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


class StageOfMoreClasses(NamedTuple):
    """How many units of a stage stay, how many are made again, and why."""

    stage: StageName
    kept: int
    to_make: int
    why: str


def stages_of_more_classes(context: StageContext, earlier: RunConfig) -> list[StageOfMoreClasses]:
    """The stages that the run of fewer classes has begun. Nothing is changed."""
    kept = _kept_units(context)
    found = []
    for name in STAGE_NAMES:
        if context.store.list(records_folder(stage_folder(name))):
            units = STAGES[name].plan(context)
            to_make = [unit for unit in units if unit.key not in kept.get(name, ())]
            why = _why(context.config, earlier, name, to_make)
            found.append(StageOfMoreClasses(name, len(units) - len(to_make), len(to_make), why))
    return found


def lines_of_more_classes(context: StageContext, earlier: RunConfig | None) -> list[str]:
    """`stages_of_more_classes` in words; [] if no classes are added."""
    added = added_names(earlier, context.config) if earlier is not None else ()
    if earlier is None or not added:
        return []
    now = len(context.data.train.class_names)
    stages = stages_of_more_classes(context, earlier)
    width = max((len(str(max(one.kept, one.to_make))) for one in stages), default=1)
    return [f"classes: {now} now, {now - len(added)} before; added {some(added)}"] + [
        f"  {one.stage:<10}  kept {one.kept:>{width}}, to make {one.to_make:>{width}}: {one.why}"
        for one in stages
    ]


def _kept_units(context: StageContext) -> dict[StageName, set[str]]:
    """Keys of the units of init and recover that stay."""
    kept: dict[StageName, set[str]] = {"init": set(), "recover": set()}
    if observers_choose(context.config):
        return kept
    stage, hashes = STAGES["init"], dict[Slot, str]()
    for unit in stage.plan(context):
        content = stage.content(context, unit, stage.inputs(context, unit))
        record = earlier_record(context, unit.with_content(content))
        if record is not None:
            kept["init"].add(unit.key)
            hashes |= {(label, ipc_id): sha for label, ipc_id, sha in record.meta["image_sha256"]}
    if context.config.recover.enabled:
        return kept
    # Recover only copies initial images. Those that are made again have no hash yet.
    for unit in STAGES["recover"].plan(context):
        if all(slot in hashes for slot in slots_of(unit)):
            content = content_before_init(context, unit, hashes)
            if earlier_record(context, unit.with_content(content)) is not None:
                kept["recover"].add(unit.key)
    return kept


def _why(config: RunConfig, earlier: RunConfig, stage: StageName, to_make: Sequence[WorkUnit]) -> str:
    if stage == "squeeze":
        return _why_observers(config, earlier)
    if stage == "statistics":
        if config.statistics.source is not None:
            return "statistics.source has those of all classes"
        if config.statistics_request.needs_no_images:
            return "read from the observers' own BatchNorms, no image is seen"
        return "they are of all images, in layers of other observers"
    if stage == "init" and observers_choose(config):
        return f"{_named(config.observers_of('init'))} of fewer classes scored the crops"
    if stage == "recover" and config.recover.enabled:
        return f"images were made for {_named(config.observers_of('recover'))} of fewer classes"
    if stage == "relabel":
        return "a soft label has a number for each class"
    if stage == "evaluate":
        return "a student has an output for each class"
    return _why_images(config, earlier, stage, to_make)


def _why_observers(config: RunConfig, earlier: RunConfig) -> str:
    observers = _named(config.squeeze.observers)
    now, before = (len(one.dataset.class_names or ()) for one in (config, earlier))
    if not config.squeeze.epochs:
        outputs = f"{now} outputs of the weight files instead of {before}"
        return f"{observers}: {outputs}; nothing is trained"
    verb = "are" if len(config.squeeze.observers) > 1 else "is"
    return f"{observers} {verb} trained on all classes: {now} now, {before} before"


def _why_images(config: RunConfig, earlier: RunConfig, stage: StageName, to_make: Sequence[WorkUnit]) -> str:
    """Why images that depend on no observer are made again."""
    before, with_added = len(earlier.dataset.class_names or ()), 0
    for unit in to_make:
        end = unit.work["classes"][1] if stage == "init" else 1 + max(label for label, _ in slots_of(unit))
        with_added += end > before
    words = [f"{with_added} with added classes"] if with_added else []
    if others := len(to_make) - with_added:
        why = "from other images, or by an edc-ray that did not record what each class depends on"
        follow = (config.dataset.mean, config.dataset.std) != (earlier.dataset.mean, earlier.dataset.std)
        if config.init.kind == "noise" and config.init.source is None and follow:
            why = "because dataset.mean and dataset.std follow all images unless they are given"
        words.append(f"{others} {why}")
    return " and ".join(words) or "they depend on no other class"


def _named(observers: Sequence[str]) -> str:
    return f"observer{'s' if len(observers) > 1 else ''} {some(observers)}"
