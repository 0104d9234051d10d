"""Tiny whole runs for the tests of the stages: three classes of made 8x8 images, two small observers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from edc_ray.artifacts.proof.manifest import Manifest, read_manifest
from edc_ray.artifacts.storage.layout import stage_folder
from edc_ray.artifacts.storage.store import Store, open_store
from edc_ray.config.load import load_recipe, with_fields
from edc_ray.config.run import STAGE_NAMES, RunConfig, StageName
from edc_ray.data.real.images import ImageSet
from edc_ray.runs.open_run import open_inputs, open_run
from edc_ray.stages.pipeline import STAGES, StageReport, run_pipeline
from edc_ray.stages.units.completeness import planned_units
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.plan import WorkUnit
from tests.data.made_images import synthetic_images, write_parquet

OBSERVERS = ("convnet_d1", "wrn_16_2")

TINY: dict[str, Any] = {
    "ipc": 2,
    "cluster.address": "none",
    "dataset.name": "shapes",
    "dataset.image_size": None,
    "dataset.allow_weak_observers": True,
    "squeeze.observers": list(OBSERVERS),
    "squeeze.epochs": 1,
    "squeeze.batch_size": 16,
    "statistics.batch_size": 10,
    "statistics.batches_per_unit": 2,
    "init.images_per_class": 8,
    "init.crops_per_image": 2,
    "init.factor": 2,
    "init.classes_per_unit": 2,
    "init.ipc_per_unit": 2,
    "recover.iterations": 3,
    "recover.classes_per_unit": 1,
    "recover.ipc_per_unit": 2,
    "relabel.epochs": 3,
    "relabel.epochs_per_unit": 2,
    "relabel.mix_group": 4,
    "evaluate.students": ["convnet_d1"],
    "evaluate.seeds": 2,
    "evaluate.batch_size": 3,
}


@cache
def shapes_url() -> str:
    """Folder in memory with Parquet files: twelve training images of each class, eight for validation."""
    folder = f"memory://{uuid.uuid4().hex}"
    write_parquet(synthetic_images(3, 12, 8, 1, seed=0), f"{folder}/train.parquet")
    write_parquet(synthetic_images(3, 8, 8, 1, seed=1), f"{folder}/val.parquet")
    return folder


def new_root() -> str:
    """A storage root in memory that nothing else uses."""
    return f"memory://{uuid.uuid4().hex}"


def tiny_config(root: str | None = None, **fields: Any) -> RunConfig:
    """The tiny run; `fields` such as `recover__iterations=5` replace what TINY says."""
    places = {
        "storage.root": root or new_root(),
        "dataset.train": f"{shapes_url()}/train.parquet",
        "dataset.val": f"{shapes_url()}/val.parquet",
    }
    given = {name.replace("__", "."): value for name, value in fields.items()}
    return with_fields(load_recipe("digits"), TINY | places | given)


def context_of(config: RunConfig) -> StageContext:
    """An opened run on the CPU."""
    return open_run(open_inputs(config), torch.device("cpu"))


def tiny_context(root: str | None = None, **fields: Any) -> StageContext:
    return context_of(tiny_config(root, **fields))


def run_until(
    context: StageContext, last: StageName, *, on_event: Any = lambda event: None
) -> list[StageReport]:
    """Run all stages up to one."""
    return run_pipeline(context, STAGE_NAMES[: STAGE_NAMES.index(last) + 1], on_event=on_event)


def copy_root(store: Store, *, leave_out: Iterable[StageName] = ()) -> str:
    """The storage root of a copy of a run, without the results of some stages."""
    root, left = new_root(), tuple(f"{stage_folder(stage)}/" for stage in leave_out)
    copy = open_store(f"{root}/{store.url.rsplit('/', 1)[-1]}")
    for path in store.list():
        if not path.startswith(left):
            copy.publish(path, store.read(path))
    return root


def units_of(context: StageContext, stage: StageName) -> list[WorkUnit]:
    return planned_units(context, STAGES[stage])


def manifest_of(context: StageContext, stage: StageName) -> Manifest:
    """The stored manifest, read again."""
    found = read_manifest(context.store, stage_folder(stage))
    assert found is not None
    return found


def shard_hashes(context: StageContext) -> dict[str, str]:
    """SHA-256 of every shard of every finished stage."""
    return {
        f"{stage}/{shard.path}": shard.sha256
        for stage in STAGE_NAMES
        for shard in manifest_of(context, stage).shards
    }


def image_hashes(context: StageContext, stage: StageName = "recover") -> dict[tuple[int, int], str]:
    """Pixel hash of every (class, ipc_id) of a finished stage."""
    records = manifest_of(context, stage).records
    return {(label, ipc_id): sha for record in records for label, ipc_id, sha in record.meta["image_sha256"]}


AFTER = ("recover", "relabel", "evaluate")
"""recover and the stages behind it."""


def recovered(copied: Callable[..., StageContext], **fields: Any) -> StageContext:
    """A copy of the finished run, with its images made again with other fields."""
    context = copied(*AFTER, **fields)
    run_pipeline(context, ["recover"])
    return context


def decoded_from_now_on(context: StageContext, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The images that a test decodes from here to its end, each as often as it does; grows with them."""
    decoded: list[int] = []
    real = type(context.data.train).fetch

    def fetch(images: ImageSet, indices: np.ndarray) -> np.ndarray:
        decoded.extend(indices.tolist())
        return real(images, indices)

    monkeypatch.setattr(type(context.data.train), "fetch", fetch)
    return decoded
