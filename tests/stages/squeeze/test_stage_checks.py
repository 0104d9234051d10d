from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fsspec
import pytest

from edc_ray.config.load import with_fields
from edc_ray.errors import DataError
from edc_ray.runs.open_run import open_inputs
from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import tiny_config


def test_validation_images_that_are_the_training_images_are_refused(
    copied: Callable[..., StageContext],
) -> None:
    config = copied().config
    train = config.dataset.train or ""
    copy = train.replace("train.parquet", "copy-of-train.parquet")
    fsspec.filesystem("memory").copy(train, copy)
    with pytest.raises(DataError, match="the validation images are the training images"):
        open_inputs(with_fields(config, {"dataset.val": copy}))


def test_validation_images_too_few_to_pass_any_observer_are_refused_unless_weak_ones_are_allowed() -> None:
    few: dict[str, Any] = {"dataset__max_val_per_class": 1, "dataset__allow_weak_observers": False}
    with pytest.raises(DataError, match="too few validation images") as caught:
        open_inputs(tiny_config(**few))
    assert caught.value.found == "3 validation images"
    assert caught.value.expected == "at least 5 for 3 classes"
    assert "dataset.allow_weak_observers=true" in str(caught.value.next)
    for enough in ({"dataset__max_val_per_class": 2}, {"dataset__allow_weak_observers": True}):
        fields: dict[str, Any] = few | enough
        open_inputs(tiny_config(**fields))
