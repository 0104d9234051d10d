"""What the records of recover tell of its iterations."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import manifest_of, recovered

Copied = Callable[..., StageContext]


def test_matching_losses_of_the_manifest_are_means_over_units_of_one_turn(finished: StageContext) -> None:
    manifest = manifest_of(finished, "recover")
    for end, place in (("first", 0), ("last", -1)):
        ends = [
            curve[place]
            for record in manifest.records
            for name, curve in record.meta["curves"].items()
            if name.startswith("matching_loss/")
        ]
        assert len(ends) == 6  # three units, two observers
        assert manifest.meta["matching_loss"][end] == pytest.approx(sum(ends) / 6, rel=1e-5)


def test_curves_have_a_bounded_number_of_points(copied: Copied) -> None:
    context = recovered(copied, recover__iterations=120, recover__classes_per_unit=3)
    (record,) = manifest_of(context, "recover").records
    assert {len(values) for values in record.meta["curves"].values()} <= set(range(30, 61))
