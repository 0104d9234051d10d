"""The units of recover: the images of each batch, their order, and the settings of each unit."""

from __future__ import annotations

from edc_ray.artifacts.storage.layout import block_key
from edc_ray.config.run import RunConfig
from edc_ray.core.recover.official_order import left_out, official_rank_batches, official_slots
from edc_ray.core.recover.settings import RecoverSettings
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.image_shards import Slot
from edc_ray.stages.units.plan import WorkUnit, blocks, span


def plan(context: StageContext) -> list[WorkUnit]:
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
    """One image of each of many classes in a batch, one ipc id after the other (SRe2L)."""
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
        if the batch does not divide by the ranks, the official program never makes the rest. Here the rest is
        a chain of its own, so that the others stay as they are.
    """
    section = context.config.recover
    slots = official_slots(len(context.data.train.class_names), context.config.ipc)
    cut = (slots, section.batch_size, section.virtual_ranks)
    chains = [*official_rank_batches(*cut), left_out(*cut)]
    return [
        WorkUnit("recover", rank_key(rank), f"virtual rank {rank}", {"batches": batches})
        for rank, batches in enumerate(chains)
        if batches
    ]


def rank_key(rank: int) -> str:
    return f"rank-{rank:03d}"


def batches_of(unit: WorkUnit) -> list[list[Slot]]:
    """A unit's batches of (label, ipc id), in the order in which they are made."""
    return [[(label, ipc_id) for label, ipc_id in batch] for batch in unit.work["batches"]]


def settings_of_unit(config: RunConfig, unit: WorkUnit) -> RecoverSettings:
    """The loop's settings in a unit. In the official order only rank 0 verifies as it goes."""
    section = config.recover
    verifies = section.order != "official" or unit.key == rank_key(0)
    return section.model_copy(
        update={
            "mirror": section.mirror and config.dataset.flip,
            "verify_every": section.verify_every if verifies else 0,
        }
    )
