from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edc_ray.core.schedules import (
    SCHEDULES,
    adaptive_factor,
    multistep,
    recover_cosine,
    smallest_crop,
)


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    num_epochs=st.integers(1, 400),
    smoothing_factor=st.floats(1, 4),
)
def test_every_schedule_starts_at_one_and_never_rises(
    name: str, num_epochs: int, smoothing_factor: float
) -> None:
    factors = [SCHEDULES[name](epoch, num_epochs, smoothing_factor) for epoch in range(num_epochs)]
    assert factors[0] == 1.0
    assert all(0 <= later <= earlier + 1e-12 for earlier, later in pairwise(factors))


def test_ssrs_is_continuous_and_ends_at_zero_where_the_official_cos2_jumps() -> None:
    at_switch, after = (SCHEDULES["ssrs"](epoch, 6000, 2.0) for epoch in (5000, 5001))
    assert at_switch - after == pytest.approx(0, abs=2e-3)
    assert SCHEDULES["ssrs"](6000, 6000, 2.0) == 0
    assert SCHEDULES["cos2_official"](5001, 6000, 2.0) == pytest.approx(after / 6)


def test_multistep_halves_at_each_milestone() -> None:
    assert [multistep(epoch, 10, 1.0, (2, 4)) for epoch in (1, 2, 3, 4, 9)] == [1.0, 0.5, 0.5, 0.25, 0.25]


def test_recover_cosine_ends_above_zero() -> None:
    assert recover_cosine(0, 1000) == 1.0
    assert 0 < recover_cosine(999, 1000) < 1e-5


def test_adaptive_schedule_shrinks_only_when_the_loss_has_stalled() -> None:
    assert adaptive_factor([]) == adaptive_factor([2.0]) == adaptive_factor([2.0, 1.0]) == 1.0
    assert adaptive_factor([2.0, 1.0, 1.001]) == 0.9975
    assert adaptive_factor([2.0, 1.0, 0.0]) == 1.0
    assert adaptive_factor([2.0, 1.0, 1.001, 1.002, 0.5]) == 0.9975**2


@pytest.mark.parametrize("way", ["cosine", "linear", "step"])
@pytest.mark.parametrize("milestone", [1.0, 0.5, 0.0])
def test_a_curriculum_comes_down_from_whole_images_to_the_smallest_crop(way: Any, milestone: float) -> None:
    floors = [smallest_crop(iteration, 100, 0.08, way, milestone) for iteration in range(101)]
    assert floors[0] == (1.0 if milestone else 0.08)
    assert all(later <= earlier for earlier, later in pairwise(floors))
    end = int(100 * milestone)
    assert floors[end:] == [0.08] * (101 - end)
    if end:
        half = {"cosine": 0.54, "linear": 0.54, "step": 1.0}[way]
        assert floors[end // 2] == pytest.approx(half)


def test_the_cosine_curriculum_lingers_at_both_ends() -> None:
    early, late = (
        smallest_crop(iteration, 100, 0.08, "cosine") - smallest_crop(iteration, 100, 0.08, "linear")
        for iteration in (10, 90)
    )
    assert early > 0 > late


def test_without_a_curriculum_the_smallest_crop_is_there_from_the_start() -> None:
    assert smallest_crop(0, 100, 0.3, "none") == 0.3
