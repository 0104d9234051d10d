"""Units that stay when classes are added: their images depend on no class but their own.

Their files name all classes of the dataset, so they are written again with the new names. The images are
neither made nor encoded again: the bytes are those that a run of all these classes would write. Units are
replaced one by one, so a killed run resumes with the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from edc_ray.artifacts.proof.manifest import read_record, read_shard, write_unit
from edc_ray.artifacts.proof.records import Record, ShardInfo, parse_record
from edc_ray.artifacts.storage.layout import join_path, record_path, stage_folder
from edc_ray.artifacts.storage.limits import MAX_JSON_BYTES
from edc_ray.artifacts.tables.checks import check_table
from edc_ray.artifacts.tables.codec import table_from_bytes, table_to_bytes
from edc_ray.artifacts.tables.schema import IMAGES_SCHEMA, build_images_table
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.fingerprint import stage_inputs
from edc_ray.stages.units.plan import CONTENT, Stage, WorkUnit

# Added classes change these, but not the images of other classes. `init.kind=noise` adds mean and std.
_OF_ALL_CLASSES = ("dataset.class_names", "dataset.num_classes", "dataset.mean", "dataset.std")
_OF_OBSERVERS = ("squeeze.", "statistics.")


def own_facts(context: StageContext, slots: Iterable[tuple[int, int]], stage: Stage) -> dict[str, Any]:
    """What images of some slots depend on besides their sources, if no observer is involved."""
    names = context.data.train.class_names
    fields = {
        name: value
        for name, value in stage_inputs(context.config, stage).items()
        if name not in _OF_ALL_CLASSES and not name.startswith(_OF_OBSERVERS)
    }
    return {"fields": fields, "names": [names[label] for label in sorted({label for label, _ in slots})]}


def kept_records(context: StageContext, stage: Stage, units: Iterable[WorkUnit]) -> dict[str, Record]:
    """Records, by key, of units whose images a run of fewer classes made. They now name all classes."""
    found = {unit.key: _kept(context, stage.folder, unit) for unit in units if unit.content}
    return {key: record for key, record in found.items() if record is not None}


def earlier_record(context: StageContext, unit: WorkUnit) -> Record | None:
    """The record of a unit with the same content. Its files are not read."""
    path = record_path(stage_folder(unit.stage), unit.key)
    data = context.store.read_if_there(path, limit=MAX_JSON_BYTES)
    record = None if data is None else parse_record(data, context.store.join(path))
    same = record is not None and record.unit == unit.key and record.meta.get(CONTENT) == unit.content
    return record if same and unit.content else None


def _kept(context: StageContext, folder: str, unit: WorkUnit) -> Record | None:
    earlier = earlier_record(context, unit)
    if earlier is None or read_record(context.store, folder, unit.key, earlier.fingerprint) is None:
        return None
    shards = {shard.path: (_renamed(context, folder, shard), shard.rows) for shard in earlier.shards}
    # The record keeps what made the images, and how long it took.
    return write_unit(
        context.store, folder, unit.key, unit.fingerprint, shards, earlier.meta, earlier.seconds,
        environment=earlier.environment,
    )  # fmt: skip


def _renamed(context: StageContext, folder: str, shard: ShardInfo) -> bytes:
    url = context.store.join(join_path(folder, shard.path))
    table = table_from_bytes(read_shard(context.store, folder, shard), url=url, ours=context.store.is_ours)
    check_table(table, IMAGES_SCHEMA.names, url=url)
    none, names = np.zeros(0, np.int64), context.data.train.class_names
    empty = build_images_table(none, none, none, names, dataset=context.config.dataset.name)
    return table_to_bytes(table.combine_chunks().replace_schema_metadata(empty.schema.metadata))
