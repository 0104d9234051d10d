"""recover: optimise pixels until the observers recognise them and see real statistics in them.

One unit is a block of classes times a block of ipc ids (orders "blocks" and "ipc_major"), or all sub-batches
of one virtual rank (order "official"). Units exchange nothing, so a result does not depend on where they run.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edc_ray.artifacts.proof.records import Record
from edc_ray.artifacts.storage.layout import network_key, table_name
from edc_ray.artifacts.storage.store import Store
from edc_ray.config.run import RunConfig
from edc_ray.core.layers.accumulator import LayerKind
from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.layers.taps import LayerTaps
from edc_ray.core.pixels import denormalise, to_uint8
from edc_ray.core.recover.captured import CapturedRecover, why_not_captured
from edc_ray.core.recover.local_targets import local_class_targets
from edc_ray.core.recover.loop import recover_images
from edc_ray.core.recover.matching import LayerTarget
from edc_ray.core.recover.state import IterationReport, LoopState, Observer
from edc_ray.core.seeding import Draws, draws
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.digests import digest_of
from edc_ray.errors import ArtifactError, ConfigError
from edc_ray.kernels.cpu.statistics import kernels_for
from edc_ray.kernels.cuda.availability import captured_recover_for
from edc_ray.models.registry import check_network
from edc_ray.stages.init import stage as init
from edc_ray.stages.init.stage import noise_images
from edc_ray.stages.recover.plan import batches_of, plan, settings_of_unit
from edc_ray.stages.squeeze import stage as squeeze
from edc_ray.stages.statistics import stage as statistics
from edc_ray.stages.statistics.source import FOLDER, read_rows
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.image_shards import Slot, images_at, images_output, read_stage_images, slot_hashes
from edc_ray.stages.units.kept_units import own_facts
from edc_ray.stages.units.plan import Stage, UnitOutput, WorkUnit, blocks
from edc_ray.stages.units.training import mean_and_std, normalised

_POINTS_OF_A_CURVE = 50


def check(config: RunConfig, data: OpenedDataset, store: Store) -> None:
    """See `Stage.check`: each observer has layers to match."""
    for name in config.observers_of("recover") if config.recover.enabled else ():
        _check_layers(name, check_network(name, **data.train.network_shape), config.recover.layers)


def _check_layers(name: str, network: nn.Module, kinds: Sequence[LayerKind]) -> None:
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if any(norm.running_mean is None for norm in norms):
        raise ConfigError(
            f"recover cannot match observer '{name}'",
            found="a BatchNorm2d that keeps no running statistics",
            next="build it with track_running_stats=True",
        )
    try:
        LayerTaps(network, kinds)
    except ValueError as error:
        raise ConfigError(
            f"recover cannot match observer '{name}': it has no layer whose statistics could be matched",
            expected=f"BatchNorm2d or Conv2d, as recover.layers=[{','.join(kinds)}] says",
            next="leave it out of recover.observers, or add conv to recover.layers",
        ) from error


def inputs(context: StageContext, unit: WorkUnit) -> Any:
    """Initial pixels of the unit's own slots, the observers and their statistics."""
    hashes = slot_hashes(context, "init")
    slots = slots_of(unit)
    if missing := [slot for slot in slots if slot not in hashes]:
        raise ArtifactError(
            f"init: initial images are missing in {context.store.url}",
            found=f"no image of class {missing[0][0]}, ipc id {missing[0][1]}",
            expected=f"ipc = {context.config.ipc} images of each class",
            next="edc-ray stage init with the same config, or edc-ray run",
        )
    own = [hashes[slot] for slot in slots]
    if not context.config.recover.enabled:
        return _copied(context, own)
    names = context.config.observers_of("recover")
    statistics = [shard.sha256 for shard in context.manifest("statistics").shards]
    local = context.data.train.content_hash if context.config.recover.category_aware == "local" else ""
    return digest_of([own, context.observer_digests(names), statistics, local])


def content(context: StageContext, unit: WorkUnit, inputs: Any) -> Any:
    """Copied images depend on the initial ones alone; optimised images depend on all classes."""
    if context.config.recover.enabled:
        return None
    return own_facts(context, slots_of(unit), STAGE), inputs


def content_before_init(context: StageContext, unit: WorkUnit, hashes: dict[Slot, str]) -> Any:
    """`content` of a unit from the hashes of its initial pixels, before init is complete."""
    own = [hashes[slot] for slot in slots_of(unit)]
    return content(context, unit, _copied(context, own))


def slots_of(unit: WorkUnit) -> list[Slot]:
    """All (label, ipc id) of a unit, in the order in which they are made."""
    return [slot for batch in batches_of(unit) for slot in batch]


def _copied(context: StageContext, own: list[str]) -> list[str]:
    # Images of init.source keep their exact pixels; others are stored in recover.image_format.
    return own if context.config.init.source is None else [*own, "taken"]


def recover_unit(context: StageContext, unit: WorkUnit) -> UnitOutput:
    slots, section = slots_of(unit), context.config.recover
    if not section.enabled:
        images, facts = read_stage_images(context, "init", set(slots)).images, {"matching_loss": None}
        # Images of another run or program keep their exact pixels.
        format = section if context.config.init.source is None else None
        return images_output(context.config.dataset, unit.key, images, sorted(slots), facts, section=format)
    recovery = _Recovery(context, unit)
    state: LoopState | None = None
    images = []
    for batch in batches_of(unit):
        start = _start_images(context, batch)
        state = LoopState.start(start) if state is None else state.next_batch(start, section.carry)
        work = partial(recovery.recovered, state, batch)
        state = context.at_once.attempt("recover", "an observer", work, len(batch), context.device)
        images.append(state.images)
    mean_std = mean_and_std(context)
    pixels = to_uint8(denormalise(torch.cat(images), *mean_std), section.image_rounding).cpu().numpy()
    facts = {
        **matching_facts(recovery.reports, len(recovery.observers)),
        # Compiled kernels and torch's operations round differently in the last bits, and so do parts.
        "kernels": context.kernels_name(),
        **context.at_once.facts("recover"),
    }
    return images_output(context.config.dataset, unit.key, pixels, slots, facts, section=section)


class _Recovery:
    """What the batches of a unit share."""

    def __init__(self, context: StageContext, unit: WorkUnit) -> None:
        self._context, self._settings = context, settings_of_unit(context.config, unit)
        self.observers = load_observers(context)
        self.reports = list[IterationReport]()  # of the first batch
        self._targets = {each.name: load_targets(context, each.name) for each in self.observers}
        self._captured = self._new_capture()
        why = why_not_captured(self._settings, self.observers)
        if self._captured is not None and why is not None:
            warnings.warn(f"recover: iterations are not captured, because of {why}", stacklevel=3)

    def _new_capture(self) -> CapturedRecover | None:
        context = self._context
        return captured_recover_for(context.device) if context.config.compile == "auto" else None

    def recovered(self, state: LoopState, batch: list[Slot], at_once: int | None) -> LoopState:
        """The state at the end of a batch. Observers see so many images at once (None: all)."""
        context, reports, (mean, std) = self._context, list[IterationReport](), mean_and_std(self._context)
        captured = self._captured or self._new_capture()
        self._captured = None  # if this batch fails, what was captured for it goes with it
        for observer in self.observers:
            observer.images_at_once = at_once
        state = recover_images(
            state,
            torch.tensor([label for label, _ in batch], device=context.device),
            self.observers,
            self._targets,
            self._settings,
            patch_side=context.config.statistics.patch_side,
            mean=mean,
            std=std,
            draws=partial(_draws_of, context.config.seed, batch),
            local_targets=_local_targets(context, self.observers, batch),
            on_iteration=None if self.reports else reports.append,
            captured=captured,
        )
        self._captured, self.reports = captured, self.reports or reports
        return state


def _draws_of(seed: int, batch: list[Slot], iteration: int) -> Draws:
    """Draws of the view that all images of a batch share, keyed by the first and last slot."""
    return draws(seed, "recover", *batch[0], *batch[-1], iteration)


def load_observers(context: StageContext) -> list[Observer]:
    """The frozen observers of recover with their taps, in the order of turns."""
    kinds = context.config.recover.layers
    numerics = context.numerics()
    kernels = kernels_for(context.device, numerics.memory_format)
    names = context.config.observers_of("recover")
    networks = {name: context.fused_observer(name, "gradients") for name in names}
    return [Observer.of(name, network, kinds, kernels, numerics) for name, network in networks.items()]


def load_targets(context: StageContext, name: str) -> dict[str, LayerTarget]:
    """Targets for one observer, by layer, in the definition that recover.variance asks for.

    Deviations:
        the official program matches patch means with class variances and the reverse: its writer exchanges
        the keys in its class files. `recover.class_patch_swapped` does so, for collected statistics too.
    """
    path = table_name(network_key(name))
    shard = next(shard for shard in context.manifest("statistics").shards if shard.path == path)
    section, rows, targets = context.config.recover, read_rows(context.store, FOLDER, shard), {}
    for layer, kind, definition, scope in rows:
        if definition != section.variance or scope != "global":
            continue
        whole, classes = _tensors(rows[layer, kind, definition, "global"], context), None
        if section.category_aware == "global":
            classes = _tensors(rows[layer, kind, definition, "class"], context)
            if section.class_patch_swapped:
                mean, variance = classes.patch_mean, classes.patch_variance
                classes = replace(classes, patch_mean=variance, patch_variance=mean)
        targets[layer] = LayerTarget(whole, classes)
    return targets


def _tensors(arrays: dict[str, np.ndarray | None], context: StageContext) -> LayerStatistics:
    moved = {
        name: None if values is None else torch.from_numpy(values).to(context.device)
        for name, values in arrays.items()
    }
    mean, variance = moved["channel_mean"], moved["channel_variance"]
    assert mean is not None
    assert variance is not None
    return LayerStatistics(mean, variance, moved["patch_mean"], moved["patch_variance"])


def _start_images(context: StageContext, batch: list[Slot]) -> Tensor:
    if context.config.init.kind == "noise":
        return noise_images(context, batch)
    return normalised(images_at(read_stage_images(context, "init", set(batch)), batch), context)


def _local_targets(
    context: StageContext, observers: list[Observer], batch: list[Slot]
) -> dict[str, dict[str, LayerStatistics]] | None:
    """Class targets from real images of the batch's classes, half of them mirrored; drawn slot by slot."""
    section, train = context.config.recover, context.data.train
    if section.category_aware != "local":
        return None
    chosen, mirrored = [], []
    for label, ipc_id in batch:
        members = train.class_indices(label)
        stream = draws(context.config.seed, "recover", "local", label, ipc_id)
        chosen.append(members[stream.integers(len(members), section.local_images_per_slot)])
        mirrored.append(stream.uniform(section.local_images_per_slot) < 0.5)
    pixels_NCHW = context.pixels(train, np.concatenate(chosen)).cpu().numpy()
    if context.config.dataset.flip:
        mirrored_N = np.concatenate(mirrored)
        pixels_NCHW = np.where(mirrored_N[:, None, None, None], pixels_NCHW[..., ::-1], pixels_NCHW)
    images = normalised(pixels_NCHW, context)
    return local_class_targets(observers, images, context.config.statistics.patch_side)


def matching_facts(reports: list[IterationReport], num_observers: int) -> dict[str, Any]:
    """Facts for the record: short curves, and the matching loss at the beginning and at the end.

    Observers differ in scale, so both ends are means over one turn of all observers. A point of a curve is a
    mean over whole turns: single iterations could all be of one observer.
    """
    turn = min(num_observers, len(reports))
    turns = -(-len(reports) // turn)
    step = turn * max(1, -(-turns // _POINTS_OF_A_CURVE))
    series = {
        name: [getattr(report, name) for report in reports]
        for name in ("loss", "cross_entropy", "matching_loss", "learning_rate")
    }
    if any(report.flatness_loss for report in reports):
        series["flatness_loss"] = [report.flatness_loss for report in reports]
    series |= {name: [report.pixel_terms[name] for report in reports] for name in reports[0].pixel_terms}
    curves = dict[str, list[float]]()
    for name, values in series.items():
        parts = [values[first:end] for first, end in blocks(len(values), step)]
        curves[name] = [round(float(np.mean(part)), 6) for part in parts]
    for name in dict.fromkeys(report.observer for report in reports):
        own = [report.matching_loss for report in reports if report.observer == name]
        shown = own[:: max(1, len(own) // _POINTS_OF_A_CURVE)]
        curves[f"matching_loss/{name}"] = [round(value, 6) for value in shown]
    matching = series["matching_loss"]
    ends = {"first": float(np.mean(matching[:turn])), "last": float(np.mean(matching[-turn:]))}
    return {"matching_loss": ends, "curves": curves}


def passes(config: RunConfig, data: OpenedDataset) -> dict[str, int]:
    if not config.recover.enabled:
        return {}
    names, images = config.observers_of("recover"), config.ipc * len(data.train.class_names)
    return dict.fromkeys(names, 3 * config.recover.iterations * images // len(names))  # they take turns


def finish(context: StageContext, records: list[Record]) -> tuple[list[Record], dict[str, Any]]:
    """Mean matching loss at the beginning and at the end, and what a reader of the images needs."""
    losses = [record.meta["matching_loss"] for record in records if record.meta["matching_loss"]]
    ends = None
    if losses:
        ends = {end: float(np.mean([loss[end] for loss in losses])) for end in ("first", "last")}
    mean, std = mean_and_std(context)
    return records, {"matching_loss": ends, "mean": list(mean), "std": list(std), "ipc": context.config.ipc}


STAGE = Stage(
    name="recover",
    version=4,
    needs=(squeeze.STAGE, statistics.STAGE, init.STAGE),
    check=check,
    sees_ipc=lambda config: config.recover.enabled and config.recover.order == "official",
    plan=plan,
    inputs=inputs,
    run_unit=recover_unit,
    finish=finish,
    content=content,
    passes=passes,
    images=lambda context, unit: len(slots_of(unit)),
)
