"""The values of the tables, in which no other test would notice a slip."""

from __future__ import annotations

import pytest

from edc_ray.config.methods import edc, edc_official
from edc_ray.config.methods.edc import units_of
from edc_ray.config.recipes import RECIPES


def test_every_recipe_has_a_row() -> None:
    assert set(edc.VALUES.datasets) == set(RECIPES)
    assert set(edc_official.VALUES.datasets) == set(RECIPES) - {"digits"}


@pytest.mark.parametrize(("batch", "ipc", "classes"), [(100, 1, 100), (100, 10, 10), (80, 50, 8), (5, 10, 1)])
def test_units_have_the_batch_of_the_paper(batch: int, ipc: int, classes: int) -> None:
    units = units_of(batch, ipc)
    assert units == {"recover.ipc_per_unit": min(ipc, 10), "recover.classes_per_unit": classes}
