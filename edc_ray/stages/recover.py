"""recover: optimise pixels until the observers recognise them and see real statistics in them.

One unit is a block of classes times a block of ipc ids (orders "blocks" and "ipc_major"), or all
sub-batches of one virtual rank (order "official"). Units exchange nothing, so where they run cannot
change them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edc_ray.artifacts.layout import block_key
from edc_ray.artifacts.records import Record
from edc_ray.config.run import digest_of
from edc_ray.core.local_targets import local_class_targets
from edc_ray.core.moments import LayerStatistics
from edc_ray.core.official_order import left_out, official_rank_batches, official_slots
from edc_ray.core.pixels import denormalise, to_uint8
from edc_ray.core.recover_loop import recover_images
from edc_ray.core.recover_state import IterationReport, LoopState, Observer, RecoverSettings
from edc_ray.core.seeding import Draws, draws
from edc_ray.errors import ArtifactError
from edc_ray.kernels.compiled import kernels_for
from edc_ray.stages.collect_statistics import load_targets
from edc_ray.stages.context import StageContext
from edc_ray.stages.image_shards import Slot, images_output, read_stage_images, slot_hashes
from edc_ray.stages.init_images import noise_images
from edc_ray.stages.plan import Stage, UnitOutput, WorkUnit, blocks, span
from edc_ray.stages.training import mean_and_std, normalised

_POINTS_OF_A_CURVE = 50


def plan(context: StageContext) -> list[WorkUnit]:
    """Units of the order that recover.order names."""
    orders = {"blocks": _block_units, "ipc_major": _ipc_major_units, "official": _official_units}
    return orders[context.config.recover.order](context)


def _block_units(context: StageContext) -> list[WorkUnit]:
    section, num_classes = context.config.recover, len(context.data.train.class_names)
    return [
        _block(first, end, first_ipc, end_ipc)
        for first, end in blocks(num_classes, section.classes_per_unit)
        for first_ipc, end_ipc in blocks(context.config.ipc, section.ipc_per_unit)
    ]


def _ipc_major_units(context: StageContext) -> list[WorkUnit]:
    """One image of each of many classes beside each other, one ipc id after the other (SRe2L)."""
    section, num_classes = context.config.recover, len(context.data.train.class_names)
    return [
        _block(first, end, ipc_id, ipc_id + 1)
        for ipc_id in range(context.config.ipc)
        for first, end in blocks(num_classes, section.batch_size)
    ]


def _block(first: int, end: int, first_ipc: int, end_ipc: int) -> WorkUnit:
    slots = [[label, ipc_id] for label in range(first, end) for ipc_id in range(first_ipc, end_ipc)]
    key = block_key(first, end - 1, first_ipc, end_ipc - 1)
    title = f"{span('classes', first, end)}, {span('ipc', first_ipc, end_ipc)}"
    return WorkUnit("recover", key, title, {"batches": [slots]})


def _official_units(context: StageContext) -> list[WorkUnit]:
    """The official batches, a chain for each virtual rank.

    Deviations:
        where the batch does not divide by the ranks, the official program never makes the rest; here it
        is a chain of its own, so that the others stay as they are.
    """
    section = context.config.recover
    slots = official_slots(len(context.data.train.class_names), context.config.ipc)
    cut = (slots, section.batch_size, section.virtual_ranks)
    chains = [*official_rank_batches(*cut), left_out(*cut)]
    return [
        WorkUnit("recover", _rank_key(rank), f"virtual rank {rank}", {"batches": _plain(batches)})
        for rank, batches in enumerate(chains)
        if batches
    ]


def _rank_key(rank: int) -> str:
    return f"rank-{rank:03d}"


def _plain(batches: list[list[Slot]]) -> list[list[list[int]]]:
    return [[list(slot) for slot in batch] for batch in batches]


def inputs(context: StageContext, unit: WorkUnit) -> Any:
    """Initial pixels of the unit's own slots, the observers and their statistics."""
    hashes = slot_hashes(context, "init")
    slots = [(label, ipc_id) for batch in unit.work["batches"] for label, ipc_id in batch]
    if missing := [slot for slot in slots if slot not in hashes]:
        raise ArtifactError(
            f"init: initial images are missing in {context.store.url}",
            found=f"no image of class {missing[0][0]}, ipc id {missing[0][1]}",
            expected=f"ipc = {context.config.ipc} images of each class",
            next="edc-ray stage init with the same config, or edc-ray run",
        )
    own = [hashes[slot] for slot in slots]
    if not context.config.recover.enabled:
        # Images that are taken are stored in another way than made ones.
        return own if context.config.init.source is None else [*own, "taken"]
    names = context.config.observers_of("recover")
    statistics = [shard.sha256 for shard in context.manifest("statistics").shards]
    local = context.data.train.content_hash if context.config.recover.category_aware == "local" else ""
    return digest_of([own, context.observer_digests(names), statistics, local])


def recover_unit(context: StageContext, unit: WorkUnit) -> UnitOutput:
    """Optimises the unit's images, one batch after the other."""
    batches: list[list[Slot]] = [
        [(label, ipc_id) for label, ipc_id in batch] for batch in unit.work["batches"]
    ]
    slots, section = [slot for batch in batches for slot in batch], context.config.recover
    if not section.enabled:
        kept = read_stage_images(context, "init", set(slots))
        in_order = sorted(slots)
        # Images of another run or program are promised as they were, down to the last pixel.
        format = section if context.config.init.source is None else None
        return images_output(
            context, unit.key, kept.images, in_order, {"matching_loss": None}, section=format
        )
    mean_std = mean_and_std(context)
    observers = load_observers(context)
    targets = {observer.name: load_targets(context, observer.name) for observer in observers}
    settings = _settings_of_unit(context, unit)
    state: LoopState | None = None
    images, reports = [], []
    for number, batch in enumerate(batches):
        start = _start_images(context, batch)
        state = LoopState.start(start) if state is None else state.next_batch(start, section.carry)
        state = recover_images(
            state,
            torch.tensor([label for label, _ in batch], device=context.device),
            observers,
            targets,
            settings,
            mean=mean_std[0],
            std=mean_std[1],
            draws=partial(_draws_of, context.config.seed, batch),
            local_targets=_local_targets(context, observers, batch),
            on_iteration=reports.append if number == 0 else None,
        )
        images.append(state.images)
    pixels = to_uint8(denormalise(torch.cat(images), *mean_std), section.image_rounding).cpu().numpy()
    # Compiled kernels and torch's operations round differently in the last bits.
    facts = {**_facts(reports, len(observers)), "kernels": observers[0].taps.kernels.name}
    return images_output(context, unit.key, pixels, slots, facts, section=section)


def _draws_of(seed: int, batch: list[Slot], iteration: int) -> Draws:
    """A batch shares one view an iteration: keyed by the slots at its ends."""
    return draws(seed, "recover", *batch[0], *batch[-1], iteration)


def load_observers(context: StageContext) -> list[Observer]:
    """The frozen observers of recover with their taps, in the order of turns."""
    kinds = context.config.recover.layers
    networks = [(name, context.observer(name)) for name in context.config.observers_of("recover")]
    kernels = kernels_for(context.device)
    return [Observer.of(name, network, kinds, kernels) for name, network in networks]


def settings_of(context: StageContext) -> RecoverSettings:
    """The loop's settings of a config."""
    section = context.config.recover
    without_classes = section.category_aware == "none"
    return RecoverSettings(
        iterations=section.iterations,
        learning_rate=section.learning_rate,
        betas=section.betas,
        matching_weight=section.matching_weight,
        statistic_momentum=section.statistic_momentum,
        estimate_start=section.estimate_start,
        global_weight=section.global_weight,
        class_weight=0.0 if without_classes else section.class_weight,
        drop_rate=section.drop_rate,
        first_multiplier=section.first_multiplier,
        flatness_weight=section.flatness_weight,
        flatness_momentum=section.flatness_momentum,
        flatness_temperature=section.flatness_temperature,
        crop_scale=section.crop_scale,
        crop_curriculum=section.crop_curriculum,
        crop_milestone=section.crop_milestone,
        flip_probability=0.5 if context.config.dataset.flip and section.mirror else 0.0,
        jitter=section.jitter,
        tv_l1_weight=section.tv_l1_weight,
        tv_l2_weight=section.tv_l2_weight,
        l2_weight=section.l2_weight,
        diversity_weight=section.diversity_weight,
        diversity_temperature=section.diversity_temperature,
        patch_side=context.config.statistics.patch_side,
        verifier_touches_estimate=section.verifier_touches_estimate,
        verify_every=section.verify_every,
        verify_final=section.verify_final,
    )


def _settings_of_unit(context: StageContext, unit: WorkUnit) -> RecoverSettings:
    """In the official order only rank 0 verifies as it goes; the finished images every rank verifies."""
    settings = settings_of(context)
    elsewhere = context.config.recover.order == "official" and unit.key != _rank_key(0)
    return replace(settings, verify_every=0) if elsewhere else settings


def _start_images(context: StageContext, batch: list[Slot]) -> Tensor:
    if context.config.init.kind == "noise":
        return noise_images(context, batch)
    rows = read_stage_images(context, "init", set(batch))
    by_slot = {
        (int(a), int(b)): row for row, (a, b) in enumerate(zip(rows.labels, rows.ipc_ids, strict=True))
    }
    return normalised(rows.images[[by_slot[slot] for slot in batch]], context)


def _local_targets(
    context: StageContext, observers: list[Observer], batch: list[Slot]
) -> dict[str, dict[str, LayerStatistics]] | None:
    """Class targets from real images of the batch's classes, half of them mirrored.

    Each slot has its own draws.
    """
    section, train = context.config.recover, context.data.train
    if section.category_aware != "local":
        return None
    chosen, mirrored = [], []
    for label, ipc_id in batch:
        members = train.class_indices(label)
        stream = draws(context.config.seed, "recover", "local", label, ipc_id)
        chosen.append(members[stream.integers(len(members), section.local_images_per_slot)])
        mirrored.append(stream.uniform(section.local_images_per_slot) < 0.5)
    pixels_NCHW = train.fetch(np.concatenate(chosen))
    if context.config.dataset.flip:
        mirrored_N = np.concatenate(mirrored)
        pixels_NCHW = np.where(mirrored_N[:, None, None, None], pixels_NCHW[..., ::-1], pixels_NCHW)
    images = normalised(pixels_NCHW, context)
    return local_class_targets(observers, images, context.config.statistics.patch_side)


def _facts(reports: list[IterationReport], num_observers: int) -> dict[str, Any]:
    """Facts for the record: curves of at most so many points, matching at the beginning and at the end.

    Observers differ in scale, so both ends are means over one turn of all observers.
    """
    turn = min(num_observers, len(reports))
    matching = [report.matching_loss for report in reports]
    # A point is a mean over whole turns: every n-th iteration alone could be the same observer's.
    turns = -(-len(reports) // turn)
    step = turn * max(1, -(-turns // _POINTS_OF_A_CURVE))
    series = {
        name: [getattr(report, name) for report in reports]
        for name in ("loss", "cross_entropy", "matching_loss", "learning_rate")
    }
    if any(report.flatness_loss for report in reports):
        series["flatness_loss"] = [report.flatness_loss for report in reports]
    series |= {name: [report.pixel_terms[name] for report in reports] for name in reports[0].pixel_terms}
    curves: dict[str, list[float]] = {
        name: [
            round(float(np.mean(values[first : first + step])), 6) for first in range(0, len(values), step)
        ]
        for name, values in series.items()
    }
    for name in dict.fromkeys(report.observer for report in reports):
        own = [report.matching_loss for report in reports if report.observer == name]
        curves[f"matching_loss/{name}"] = [
            round(value, 6) for value in own[:: max(1, len(own) // _POINTS_OF_A_CURVE)]
        ]
    ends = {"first": float(np.mean(matching[:turn])), "last": float(np.mean(matching[-turn:]))}
    return {"matching_loss": ends, "curves": curves}


def finish(context: StageContext, records: list[Record]) -> tuple[list[Record], dict[str, Any]]:
    """Mean matching loss of all units at the beginning and at the end; what a reader of the images needs."""
    ends = [record.meta["matching_loss"] for record in records if record.meta["matching_loss"]]
    matching = (
        {end: float(np.mean([one[end] for one in ends])) for end in ("first", "last")} if ends else None
    )
    mean, std = mean_and_std(context)
    return records, {
        "matching_loss": matching,
        "mean": list(mean),
        "std": list(std),
        "ipc": context.config.ipc,
    }


STAGE = Stage(
    name="recover",
    needs=("squeeze", "statistics", "init"),
    plan=plan,
    inputs=inputs,
    run_unit=recover_unit,
    finish=finish,
)
