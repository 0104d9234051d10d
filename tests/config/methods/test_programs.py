from __future__ import annotations

import pytest

from edc_ray.config.methods.registry import METHODS
from edc_ray.config.recipes import RECIPES

# Methods whose authors published a program that works so; a method of ours may do as it likes.
OF_PROGRAMS = {
    "cda", "edc_a", "edc_b", "edc_c", "edc_d", "edc_e", "edc_f", "edc_official", "gvbsm", "rded", "sre2l",
}  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("method", sorted({*OF_PROGRAMS, "edc", "edc_g"}))
def test_programs_crop_whole_pictures_of_the_imagenet_sets_and_show_students_whole_groups(
    recipe: str, method: str
) -> None:
    config = METHODS[method](RECIPES[recipe](10))
    whole = method in OF_PROGRAMS and recipe in ("imagenet10", "imagenet1k")
    assert config.dataset.train_resize == ("whole" if whole else "shorter_side")
    assert config.evaluate.order == ("groups" if method in OF_PROGRAMS else "shuffled")
