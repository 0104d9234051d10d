from __future__ import annotations

from pathlib import Path

import pytest

from edc_ray.errors import NumericalError, ResourceError
from tests.cluster.fake_stage import ended, keys_done, tries_of

pytestmark = pytest.mark.usefixtures("ray_of_tests")


def test_a_ddp_group_gives_one_record_for_each_unit(tmp_path: Path) -> None:
    outcomes = ended(tmp_path, 2, a="work", b="work")
    assert keys_done(outcomes) == "ab"
    for key in "ab":
        assert (tmp_path / f"run/squeeze/{key}.txt").read_text() == "6 2"
        assert tries_of(tmp_path / "marks", key) == 2  # one for each rank


@pytest.mark.nightly
def test_a_unit_whose_worker_died_once_is_done_by_the_next_group(tmp_path: Path) -> None:
    outcomes = ended(tmp_path, 2, a="work", b="kill once", c="work")
    assert keys_done(outcomes) == "abc"


@pytest.mark.nightly
def test_a_unit_that_raises_on_one_rank_of_a_group_is_reported_and_others_are_done(tmp_path: Path) -> None:
    outcomes = ended(tmp_path, 2, a="raise on rank 1", b="work")
    assert keys_done(outcomes) == "b"
    with pytest.raises(NumericalError, match="unit a is poisoned"):
        raise outcomes["a"].error or AssertionError
    assert not (tmp_path / "run/squeeze/a.txt").exists()


@pytest.mark.nightly
def test_a_unit_that_always_kills_its_worker_is_reported_after_the_retries(tmp_path: Path) -> None:
    outcomes = ended(tmp_path, 2, a="kill", b={"do": "work", "seconds": 5.0})
    assert keys_done(outcomes) == "b"
    with pytest.raises(ResourceError, match="unit 'unit a' died 2 times"):
        raise outcomes["a"].error or AssertionError
