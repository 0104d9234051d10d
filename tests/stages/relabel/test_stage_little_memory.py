"""relabel with too little memory for a batch of views."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edc_ray.data.condensed.images import CondensedViews
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.units.context import StageContext
from tests.stages.little_memory import LittleMemory
from tests.stages.tiny_runs import manifest_of

Copied = Callable[..., StageContext]
FIELDS = {"relabel__batch_size": 6, "relabel__mix_group": 6}


@pytest.mark.parametrize("norm", ["none", "frobenius"])
def test_labels_made_in_parts_are_those_of_whole_batches(copied: Copied, norm: str) -> None:
    """The norm "frobenius" depends on all labels of a mixing group."""
    whole, parts = (copied("relabel", "evaluate", relabel__label_norm=norm, **FIELDS) for _ in range(2))
    run_pipeline(whole, ["relabel"])
    with LittleMemory(3) as memory, pytest.warns(UserWarning, match="^labels and scores: memory was") as told:
        run_pipeline(parts, ["relabel"])
    # Each of the two observers fails for its first batch only, and one warning tells it.
    assert (memory.failures, len(told)) == (2, 1)
    mine, theirs = (CondensedViews(each.store.url) for each in (parts, whole))
    for epoch in range(3):
        for views in (mine, theirs):
            views.set_epoch(epoch)
        np.testing.assert_allclose(mine.rows.logits, theirs.rows.logits, rtol=2e-3, atol=1e-3)
    assert {record.meta["images_at_once"] for record in manifest_of(parts, "relabel").records} == {3}
    assert not any("images_at_once" in record.meta for record in manifest_of(whole, "relabel").records)
