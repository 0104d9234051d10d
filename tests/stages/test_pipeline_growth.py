"""A finished run grows: units stay if they can, and equal those of a run that begins larger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edc_ray.artifacts.proof.manifest import verify_run
from edc_ray.artifacts.storage.layout import join_path, stage_folder
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import image_hashes, manifest_of, shard_hashes, tiny_context

Copied = Callable[..., StageContext]


def _work(context: StageContext) -> dict[str, tuple[int, int]]:
    """Units (made, reused) of each stage in a run of everything."""
    return {report.stage: (report.units_done, report.units_reused) for report in run_pipeline(context)}


@pytest.mark.parametrize("units_of_ipc", [1, 2])
def test_a_raised_ipc_keeps_the_images_and_equals_a_run_that_began_with_it(
    copied: Copied, units_of_ipc: int
) -> None:
    blocks: dict[str, Any] = {"init__ipc_per_unit": units_of_ipc, "recover__ipc_per_unit": units_of_ipc}
    small = tiny_context(**blocks)
    run_pipeline(small)
    before, root = image_hashes(small), small.store.url.rsplit("/", 1)[0]
    grown = tiny_context(root, ipc=4, **blocks)
    work = _work(grown)
    there = {1: 6, 2: 3}[units_of_ipc]
    assert work["recover"] == (there, there)
    assert work["squeeze"][0] == work["statistics"][0] == 0
    assert work["relabel"] == (2, 0)
    assert before.items() < image_hashes(grown).items()
    calm = tiny_context(ipc=4, **blocks)
    run_pipeline(calm)
    assert shard_hashes(grown) == shard_hashes(calm)
    assert verify_run(grown.store) == []


def test_a_block_that_was_shorter_leaves_nothing_behind() -> None:
    context = tiny_context(recover__ipc_per_unit=5)
    run_pipeline(context)
    grown = tiny_context(context.store.url.rsplit("/", 1)[0], ipc=3, recover__ipc_per_unit=5)
    assert _work(grown)["recover"] == (3, 0)
    for stage in ("init", "recover", "relabel"):
        folder = stage_folder(stage)
        named = {join_path(folder, shard.path) for shard in manifest_of(grown, stage).shards}
        there = {path for path in grown.store.list(folder) if path.endswith(".parquet")}
        assert there == named
    assert verify_run(grown.store) == []


def test_more_epochs_keep_the_labels_that_are_there(copied: Copied) -> None:
    context = copied(relabel__epochs=5)
    assert _work(context)["relabel"] == (2, 1)  # epochs 0-1 stay, 2 becomes 2-3, 4 is new
