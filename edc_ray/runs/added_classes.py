"""Before classes are added to a run: which units stay, which are made again, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from edc_ray.artifacts.storage.layout import records_folder, stage_folder
from edc_ray.config.run import STAGE_NAMES, RunConfig, StageName
from edc_ray.runs.growth import added_names, observers_choose, some
from edc_ray.stages.pipeline import STAGES
from edc_ray.stages.recover.stage import content_before_init, slots_of
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.image_shards import Slot
from edc_ray.stages.units.kept_units import earlier_record
from edc_ray.stages.units.plan import WorkUnit


class StageOfMoreClasses(NamedTuple):
    """How many units of a stage stay, how many are made again, and why."""

    stage: StageName
    kept: int
    to_make: int
    why: str


def stages_of_more_classes(context: StageContext, earlier: RunConfig) -> list[StageOfMoreClasses]:
    """The stages that the run of fewer classes has begun. Nothing is changed."""
    hashes = dict[str, dict[Slot, str]]()
    if not observers_choose(context.config):
        hashes = _kept_of_init(context)
    kept = {"init": set(hashes), "recover": set[str]()}
    if not context.config.recover.enabled:
        kept["recover"] = _kept_of_recover(
            context, {s: sha for own in hashes.values() for s, sha in own.items()}
        )
    found = []
    for name in STAGE_NAMES:
        if context.store.list(records_folder(stage_folder(name))):
            units = STAGES[name].plan(context)
            to_make = [unit for unit in units if unit.key not in kept.get(name, ())]
            why = _why(context.config, earlier, name, to_make)
            found.append(StageOfMoreClasses(name, len(units) - len(to_make), len(to_make), why))
    return found


def lines_of_more_classes(context: StageContext, earlier: RunConfig | None) -> list[str]:
    """The same in words; [] where no classes are added."""
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


def _kept_of_init(context: StageContext) -> dict[str, dict[Slot, str]]:
    """Units of init that stay, and the pixel hashes of their images."""
    stage, kept = STAGES["init"], dict[str, dict[Slot, str]]()
    for unit in stage.plan(context):
        content = stage.content(context, unit, stage.inputs(context, unit))
        record = earlier_record(context, unit.with_content(content))
        if record is not None:
            rows = record.meta["image_sha256"]
            kept[unit.key] = {(label, ipc_id): sha for label, ipc_id, sha in rows}
    return kept


def _kept_of_recover(context: StageContext, hashes: dict[Slot, str]) -> set[str]:
    """Units of recover that stay when it only copies initial images; some of these are not known yet."""
    kept = set[str]()
    for unit in STAGES["recover"].plan(context):
        if all(slot in hashes for slot in slots_of(unit)):
            content = content_before_init(context, unit, hashes)
            if earlier_record(context, unit.with_content(content)) is not None:
                kept.add(unit.key)
    return kept


def _why(config: RunConfig, earlier: RunConfig, stage: StageName, to_make: Sequence[WorkUnit]) -> str:
    if stage == "squeeze":
        return _why_observers(config, earlier)
    if stage == "statistics":
        return _why_statistics(config)
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
    squeeze = config.squeeze
    now, before = (len(one.dataset.class_names or ()) for one in (config, earlier))
    if squeeze.epochs:
        observers, verb = _named(squeeze.observers), "are" if len(squeeze.observers) > 1 else "is"
        return f"{observers} {verb} trained on all classes: {now} now, {before} before"
    outputs = f"{now} outputs of the weight files instead of {before}"
    return f"{_named(squeeze.observers)}: {outputs}; nothing is trained"


def _why_statistics(config: RunConfig) -> str:
    if config.statistics.source is not None:
        return "statistics.source has those of all classes"
    if config.statistics_request.needs_no_images:
        return "read from the observers' own BatchNorms, no image is seen"
    return "they are of all images, in layers of other observers"


def _why_images(config: RunConfig, earlier: RunConfig, stage: StageName, to_make: Sequence[WorkUnit]) -> str:
    """Why images are made again that depend on no observer."""
    before = len(earlier.dataset.class_names or ())
    with_added = sum(_last_class(stage, unit) >= before for unit in to_make)
    words = [f"{with_added} with added classes"] if with_added else []
    if others := len(to_make) - with_added:
        words.append(f"{others} {_why_others(config, earlier)}")
    return " and ".join(words) or "they depend on no other class"


def _why_others(config: RunConfig, earlier: RunConfig) -> str:
    follow = (config.dataset.mean, config.dataset.std) != (earlier.dataset.mean, earlier.dataset.std)
    if config.init.kind == "noise" and config.init.source is None and follow:
        return "because dataset.mean and dataset.std follow all images unless they are given"
    return "from other images, or by an edc-ray that did not record what each class depends on"


def _last_class(stage: StageName, unit: WorkUnit) -> int:
    return unit.work["classes"][1] - 1 if stage == "init" else max(label for label, _ in slots_of(unit))


def _named(observers: Sequence[str]) -> str:
    return f"observer{'s' if len(observers) > 1 else ''} {some(observers)}"
