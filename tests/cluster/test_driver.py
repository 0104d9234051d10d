from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edc_ray.errors import NumericalError, ResourceError
from edc_ray.stages.units.plan import Outcome
from tests.cluster.fake_stage import fake_config, fake_context, fake_stage, fake_units, tries_of

pytestmark = pytest.mark.usefixtures("ray_of_tests")


def ended_on_train(folder: Path, group_size: int, **doings: Any) -> dict[str, Outcome]:
    from edc_ray.cluster.driver import ray_executor

    context = fake_context(folder / "run", np.arange(4), cluster__retries=1)
    units = fake_units(folder / "marks", "squeeze", **doings)
    with ray_executor(fake_config(folder)) as execute:
        outcomes = list(execute(fake_stage("squeeze", lambda config: group_size), context, units))
    assert len(outcomes) == len(units)
    return {outcome.unit.key: outcome for outcome in outcomes}


def keys_done(outcomes: dict[str, Outcome]) -> str:
    return "".join(sorted(key for key, outcome in outcomes.items() if outcome.record))


def test_units_spread_over_two_workers_are_done_once_and_a_raising_one_is_reported(tmp_path: Path) -> None:
    outcomes = ended_on_train(tmp_path, 1, a="work", b="raise", c="work")
    assert keys_done(outcomes) == "ac"
    with pytest.raises(NumericalError, match="unit b is poisoned"):
        raise outcomes["b"].error or AssertionError
    assert [tries_of(tmp_path / "marks", key) for key in "abc"] == [1, 1, 1]
    assert (tmp_path / "run/squeeze/a.txt").read_text() == "6 1"


def test_a_ddp_group_gives_one_record_for_each_unit(tmp_path: Path) -> None:
    outcomes = ended_on_train(tmp_path, 2, a="work", b="work")
    assert keys_done(outcomes) == "ab"
    for key in "ab":
        assert (tmp_path / f"run/squeeze/{key}.txt").read_text() == "6 2"
        assert tries_of(tmp_path / "marks", key) == 2  # one for each rank


@pytest.mark.nightly
@pytest.mark.parametrize("group_size", [1, 2])
def test_a_unit_whose_worker_died_once_is_done_by_the_next_group(tmp_path: Path, group_size: int) -> None:
    outcomes = ended_on_train(tmp_path, group_size, a="work", b="kill once", c="work")
    assert keys_done(outcomes) == "abc"


@pytest.mark.nightly
def test_a_unit_that_raises_on_one_rank_of_a_group_is_reported_and_others_are_done(tmp_path: Path) -> None:
    outcomes = ended_on_train(tmp_path, 2, a="raise on rank 1", b="work")
    assert keys_done(outcomes) == "b"
    with pytest.raises(NumericalError, match="unit a is poisoned"):
        raise outcomes["a"].error or AssertionError
    assert not (tmp_path / "run/squeeze/a.txt").exists()


@pytest.mark.nightly
@pytest.mark.parametrize("group_size", [1, 2])
def test_a_unit_that_always_kills_its_worker_is_reported_after_the_retries(
    tmp_path: Path, group_size: int
) -> None:
    outcomes = ended_on_train(tmp_path, group_size, a="kill", b={"do": "work", "seconds": 5.0})
    assert keys_done(outcomes) == "b"
    with pytest.raises(ResourceError, match="unit 'unit a' died 2 times"):
        raise outcomes["a"].error or AssertionError


@pytest.mark.nightly
def test_a_stage_that_is_stopped_frees_its_workers(tmp_path: Path) -> None:
    import ray

    from edc_ray.cluster.driver import ray_executor

    context = fake_context(tmp_path / "run", np.arange(4))
    slow = {"do": "work", "seconds": 600.0}
    units = fake_units(tmp_path / "marks", "squeeze", a="work", b=slow, c=slow)
    with ray_executor(fake_config(tmp_path)) as execute:
        outcomes = execute(fake_stage("squeeze"), context, units)
        assert next(iter(outcomes)).unit.key == "a"
        outcomes.close()  # type: ignore[attr-defined]

    @ray.remote(num_cpus=4)
    def takes_all() -> int:
        return 4

    assert ray.get(takes_all.remote(), timeout=60) == 4
