from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edc_ray.errors import NumericalError
from tests.cluster.fake_stage import (
    ended,
    fake_config,
    fake_context,
    fake_stage,
    fake_units,
    keys_done,
    tries_of,
)

pytestmark = pytest.mark.usefixtures("ray_of_tests")


def test_units_spread_over_two_workers_are_done_once_and_a_raising_one_is_reported(tmp_path: Path) -> None:
    outcomes = ended(tmp_path, 1, a="work", b="raise", c="work")
    assert keys_done(outcomes) == "ac"
    with pytest.raises(NumericalError, match="unit b is poisoned"):
        raise outcomes["b"].error or AssertionError
    assert [tries_of(tmp_path / "marks", key) for key in "abc"] == [1, 2, 1]
    assert (tmp_path / "run/squeeze/a.txt").read_text() == "6 1"


def test_actors_that_started_before_the_data_was_open_do_the_units(tmp_path: Path) -> None:
    from edc_ray.cluster.driver import ray_executor

    context, units = fake_context(tmp_path / "run", np.arange(4)), {"a": "work"}
    with ray_executor(fake_config(tmp_path)) as execute:
        early = list(execute._pool._spare)
        outcomes = list(
            execute(fake_stage("squeeze"), context, fake_units(tmp_path / "marks", "squeeze", **units))
        )
        assert outcomes[0].record
        assert len(early) == 2
        assert set(execute._pool._spare) == set(early)


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
