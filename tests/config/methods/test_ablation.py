from __future__ import annotations

from itertools import pairwise

import pytest

from edc_ray.config.recipes import RECIPES
from tests.config.methods.changed_fields import changed, of

STEPS = [f"edc_{letter}" for letter in "abcdefg"]


def test_the_steps_of_the_ablation_add_up_to_edc_with_flatness() -> None:
    assert changed(of("imagenet1k", "gvbsm"), of("imagenet1k", "edc_a")) == {"method"}
    assert changed(of("imagenet1k", "edc"), of("imagenet1k", "edc_g")) == {
        "method",
        "recover.flatness_weight",
    }


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_step_of_the_ablation_never_takes_back_what_one_before_it_took(recipe: str) -> None:
    """Apart from zeta, which the paper raises from 1.5 to 2 on the way."""
    configs = [of(recipe, step).model_dump() for step in STEPS]
    for section, fields in configs[0].items():
        for name in fields if isinstance(fields, dict) else ():
            values = [str(config[section][name]) for config in configs]
            changes = sum(a != b for a, b in pairwise(values))
            allowed = {"evaluate.smoothing_factor": 2, "recover.iterations": 2}
            assert changes <= allowed.get(f"{section}.{name}", 1), f"{section}.{name}: {values}"


def test_what_each_step_of_the_ablation_adds_is_what_the_paper_says() -> None:
    configs = {step[-1]: of("imagenet1k", step) for step in STEPS}
    assert [configs[letter].init.kind for letter in "ab"] == ["noise", "mosaic"]
    assert [configs[letter].recover.iterations for letter in "ab"] == [4000, 2000]
    assert [configs[letter].evaluate.smoothing_factor for letter in "bcde"] == [1.0, 1.5, 1.5, 2.0]
    assert [configs[letter].recover.flatness_weight for letter in "cd"] == [0.0, 0.25]
    assert [configs[letter].evaluate.batch_size for letter in "de"] == [1024, 100]
    assert ["alexnet" in configs[letter].observers_of("relabel") for letter in "de"] == [False, True]
    assert [configs[letter].recover.category_aware for letter in "ef"] == ["none", "global"]
    assert [configs[letter].recover.crop_scale[0] for letter in "fg"] == [0.08, 0.5]
    assert [configs[letter].evaluate.ema_decay for letter in "fg"] == [0.0, 0.99]
