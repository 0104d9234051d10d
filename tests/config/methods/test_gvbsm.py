from __future__ import annotations

import pytest

from edc_ray.config.recipes import RECIPES
from tests.config.methods.changed_fields import of


@pytest.mark.parametrize("recipe", RECIPES)
def test_gvbsm_matches_the_whole_set_and_wants_diverse_images(recipe: str) -> None:
    config = of(recipe, "gvbsm").recover
    assert (config.layers, config.category_aware) == (("bn", "conv"), "none")
    assert (config.global_weight, config.class_weight, config.diversity_weight) == (1.0, 0.0, 1.0)
