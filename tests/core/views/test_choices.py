from __future__ import annotations

import numpy as np

from edc_ray.core.seeding import draws
from edc_ray.core.views.choices import choices_preferring_unused, uniform_choices

WAYS = (uniform_choices, choices_preferring_unused)


def test_a_larger_count_goes_on_after_the_smaller_one() -> None:
    for choose in WAYS:
        few, many = choose(draws(0, "a"), 7, 5), choose(draws(0, "a"), 7, 50)
        assert few.tolist() == many[:5].tolist()
        assert set(many.tolist()) == set(range(7))


def test_preferring_unused_spreads_the_uses_evenly() -> None:
    spread = {choose: np.bincount(choose(draws(1, "b"), 10, 1000), minlength=10).std() for choose in WAYS}
    assert spread[choices_preferring_unused] < 2 < spread[uniform_choices]


def test_a_second_use_has_the_chance_of_a_softmax() -> None:
    """After one use of one of two images, it is chosen again with chance e^-1 / (1 + e^-1)."""
    again = [
        first == second
        for first, second in (choices_preferring_unused(draws(0, "c", n), 2, 2) for n in range(4000))
    ]
    assert abs(np.mean(again) - np.exp(-1) / (1 + np.exp(-1))) < 0.025
