from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edc_ray.errors import NumericalError, ResourceError
from edc_ray.stages.plan import Outcome
from tests.cluster.fake_stage import fake_config, fake_context, fake_stage, fake_units, tries_of

pytestmark = pytest.mark.usefixtures("ray_of_tests")


def ended_on_train(folder: Path, workers_of_a_unit: int, **doings: str) -> dict[str, Outcome]:
    from edc_ray.cluster.driver import ray_executor

    context = fake_context(folder / "run", np.arange(4), cluster__retries=1)
    units = fake_units(folder / "marks", "squeeze", **doings)
    stage = fake_stage("squeeze", lambda context: workers_of_a_unit)
    with ray_executor(fake_config(folder)) as execute:
        outcomes = list(execute(stage, context, units))
    assert len(outcomes) == len(units)
    return {outcome.unit.key: outcome for outcome in outcomes}


def test_units_spread_over_two_workers_are_done_once_and_failures_are_reported(tmp_path: Path) -> None:
    outcomes = ended_on_train(tmp_path, 1, a="work", b="raise", c="kill once", d="work", e="kill")
    assert isinstance(outcomes["b"].error, NumericalError)
    assert isinstance(outcomes["e"].error, ResourceError)
    assert {key for key, outcome in outcomes.items() if outcome.record} == {"a", "c", "d"}
    assert [tries_of(tmp_path / "marks", key) for key in "abce"] == [1, 1, 2, 2]
    assert (tmp_path / "run/squeeze/a.txt").read_text() == "6 1"


def test_a_ddp_group_gives_one_record_for_each_unit(tmp_path: Path) -> None:
    outcomes = ended_on_train(tmp_path, 2, a="work", b="raise on rank 1", c="work")
    assert isinstance(outcomes["b"].error, NumericalError)
    for key in "ac":
        assert outcomes[key].record is not None
        assert (tmp_path / f"run/squeeze/{key}.txt").read_text() == "6 2"
        assert tries_of(tmp_path / "marks", key) == 2  # one for each rank
    assert not (tmp_path / "run/squeeze/b.txt").exists()


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

    assert ray.get(takes_all.remote(), timeout=30) == 4
