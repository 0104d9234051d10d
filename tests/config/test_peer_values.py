from __future__ import annotations

import pytest

from edc_ray.config.load import field_paths
from edc_ray.config.peer_values import CDA, GVBSM, RDED, SRE2L, rded_batch
from edc_ray.config.recipes import RECIPES


@pytest.mark.parametrize("values", [SRE2L, CDA, GVBSM, RDED])
def test_every_field_of_the_tables_exists(values: object) -> None:
    assert isinstance(values, type(SRE2L))
    assert values.fields() <= set(field_paths())
    assert set(values.datasets) <= set(RECIPES)


@pytest.mark.parametrize(
    ("num_classes", "ipc", "batch"),
    [(10, 1, 10), (10, 10, 50), (10, 50, 100), (100, 10, 100), (1000, 50, 200), (1000, 1, 20)],
)
def test_rdeds_students_take_the_batch_of_its_rule(num_classes: int, ipc: int, batch: int) -> None:
    assert rded_batch(num_classes, ipc) == batch
