from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edc_ray.core.layers.taps import LayerTaps
from edc_ray.stages.recover.stage import load_targets
from edc_ray.stages.statistics.source import FOLDER, read_rows
from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import OBSERVERS

Copied = Callable[..., StageContext]


@pytest.mark.parametrize("variance", ["pooled", "official"])
def test_targets_are_those_of_the_definition_that_recover_asks_for(copied: Copied, variance: str) -> None:
    context = copied("recover", "relabel", "evaluate", recover__variance=variance)
    for name in OBSERVERS:
        (shard,) = (one for one in context.manifest("statistics").shards if name in one.path)
        stored, targets = read_rows(context.store, FOLDER, shard), load_targets(context, name)
        kinds = LayerTaps(context.observer(name)).kinds
        assert list(targets) == list(kinds)
        for layer, target in targets.items():
            for scope, values in (("global", target.global_), ("class", target.classes)):
                assert values is not None
                row = stored[layer, kinds[layer], variance, scope]
                np.testing.assert_array_equal(values.channel_variance, row["channel_variance"])
                assert (values.patch_mean is None) == (kinds[layer] == "bn")


def test_targets_hold_class_statistics_only_where_classes_are_matched(copied: Copied) -> None:
    context = copied("recover", "relabel", "evaluate", recover__category_aware="none")
    assert all(target.classes is None for target in load_targets(context, "wrn_16_2").values())
