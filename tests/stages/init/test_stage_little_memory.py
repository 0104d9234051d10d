"""init with too little memory for the crops that are scored together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.units.context import StageContext
from tests.stages.little_memory import LittleMemory
from tests.stages.tiny_runs import image_hashes, manifest_of

Copied = Callable[..., StageContext]
FROM_INIT = ("init", "recover", "relabel", "evaluate")


@pytest.mark.parametrize("fields", [{}, {"init__candidates": "shared_crops", "init__crop_group": 4}], ids=str)
def test_crops_scored_in_parts_make_the_same_mosaics(copied: Copied, fields: dict[str, Any]) -> None:
    whole, parts = (copied(*FROM_INIT, **fields) for _ in range(2))
    run_pipeline(whole, ["init"])
    with LittleMemory(3) as memory, pytest.warns(UserWarning, match="^labels and scores: memory was") as told:
        run_pipeline(parts, ["init"])
    assert max(memory.sizes) > 3
    assert len(told) == 1
    assert image_hashes(parts, "init") == image_hashes(whole, "init")
    assert {record.meta["images_at_once"] <= 3 for record in manifest_of(parts, "init").records} == {True}
    assert not any("images_at_once" in record.meta for record in manifest_of(whole, "init").records)
