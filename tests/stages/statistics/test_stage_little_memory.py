"""statistics with too little memory for a data batch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edc_ray.artifacts.proof.manifest import read_shard
from edc_ray.artifacts.tables.codec import table_from_bytes
from edc_ray.artifacts.tables.schema import read_statistics_table
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.statistics import stage as collect_statistics
from edc_ray.stages.units.context import StageContext
from tests.stages.little_memory import LittleMemory
from tests.stages.tiny_runs import OBSERVERS, manifest_of, units_of

Copied = Callable[..., StageContext]
AFTER = ("statistics", "recover", "relabel", "evaluate")


def test_statistics_of_parts_are_those_of_whole_data_batches_in_both_definitions(
    copied: Copied, finished: StageContext
) -> None:
    """The official variance is that within a data batch of 10, not within the parts that a network sees."""
    parts = copied(*AFTER)
    with LittleMemory(4) as memory, pytest.warns(UserWarning, match="^statistics: memory was") as told:
        run_pipeline(parts, ["statistics"])
    # Each observer fails for its first batch only (10 images, then 5), and one warning tells it.
    assert (memory.failures, len(told)) == (2 * 2, 1)
    for name in OBSERVERS:
        mine, theirs = (
            read_statistics_table(table_from_bytes(read_shard(one.store, "statistics", shard), url="x"))
            for one in (parts, finished)
            for shard in manifest_of(one, "statistics").shards
            if shard.path == f"{name}.parquet"
        )
        assert mine.keys() == theirs.keys()
        for key, quantities in theirs.items():
            for quantity, expected in quantities.items():
                found = mine[key][quantity]
                assert (found is None) == (expected is None)
                if found is not None and expected is not None:
                    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_record_of_a_unit_says_how_many_images_were_seen_at_once(copied: Copied) -> None:
    context = copied(*AFTER)
    first, second = units_of(context, "statistics")
    assert "images_at_once" not in collect_statistics.collect(context, first).meta
    with LittleMemory(5), pytest.warns(UserWarning, match="too little for 10 images"):
        assert collect_statistics.collect(context, first).meta["images_at_once"] == 5
    with LittleMemory(5) as memory:
        collect_statistics.collect(context, second)
    assert memory.failures == 0
