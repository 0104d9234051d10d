from __future__ import annotations

import pytest

from edc_ray.config.methods.registry import METHODS
from edc_ray.config.recipes import RECIPES


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("method", METHODS)
def test_programs_crop_whole_pictures_of_the_imagenet_sets_and_show_students_whole_groups(
    recipe: str, method: str
) -> None:
    config = METHODS[method](RECIPES[recipe](10))
    of_programs = method not in ("edc", "edc_g")
    whole = of_programs and recipe in ("imagenet10", "imagenet1k")
    assert config.dataset.train_resize == ("whole" if whole else "shorter_side")
    assert config.evaluate.order == ("groups" if of_programs else "shuffled")
