from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edc_ray.cluster.tune import planned_trials
from edc_ray.config.run import RunConfig
from edc_ray.errors import ConfigError
from edc_ray.stages.pipeline import STAGES
from tests.cluster.fake_stage import fake_config


def sweep_config(folder: Path, space: dict[str, Any], **fields: Any) -> RunConfig:
    return fake_config(folder, run__name="search", sweep__space=space, **fields)


def no_images(config: RunConfig) -> list[str]:
    return []


def test_a_grid_is_the_product_of_its_lists_and_trials_have_names_of_their_own(tmp_path: Path) -> None:
    config = sweep_config(tmp_path, {"ipc": [1, 2], "recover.matching_weight": [0.1, 0.2, 0.2]})
    trials = planned_trials(config, str(tmp_path), no_images)
    assert [(trial.config.ipc, trial.config.recover.matching_weight) for trial in trials] == [
        (1, 0.1), (1, 0.2), (2, 0.1), (2, 0.2),
    ]  # fmt: skip
    assert len({trial.config.run.name for trial in trials}) == 4


def test_a_random_search_is_the_same_every_time_and_grows_at_its_end(tmp_path: Path) -> None:
    space = {
        "recover.learning_rate": {"loguniform": [0.001, 0.1]},
        "recover.iterations": {"randint": [10, 20]},
        "relabel.mix": ["cutmix", "mixup"],
        "recover.class_weight": {"uniform": [0.0, 1.0]},
    }
    few = planned_trials(
        sweep_config(tmp_path, space, sweep__search="random", sweep__num_trials=3), "/runs", no_images
    )
    many = planned_trials(
        sweep_config(tmp_path, space, sweep__search="random", sweep__num_trials=20), "/runs", no_images
    )
    assert [trial.fields for trial in many[:3]] == [trial.fields for trial in few]
    assert [trial.key for trial in many[:3]] == [trial.key for trial in few]
    assert all(0.001 <= trial.config.recover.learning_rate <= 0.1 for trial in many)
    assert {trial.config.recover.iterations for trial in many} <= set(range(10, 21))
    assert {trial.config.relabel.mix for trial in many} == {"cutmix", "mixup"}


def test_trials_of_methods_keep_what_the_sweeps_config_changes_and_take_the_rest_from_the_method(
    tmp_path: Path,
) -> None:
    config = sweep_config(tmp_path, {"method": ["edc", "rded"]}, recover__iterations=4, ipc=1)
    trials = planned_trials(config, str(tmp_path), no_images)
    assert [trial.config.method for trial in trials] == ["edc", "rded"]
    assert [trial.config.recover.iterations for trial in trials] == [4, 4]
    assert [trial.config.recover.enabled for trial in trials] == [True, False]


def test_a_sweep_for_a_row_that_is_not_made_is_refused(tmp_path: Path) -> None:
    config = sweep_config(tmp_path, {"ipc": [1]}, evaluate__rows=["random"])
    with pytest.raises(ConfigError, match="is not among the rows of its trials"):
        planned_trials(config, str(tmp_path), no_images)


def test_what_changes_no_result_changes_no_key(tmp_path: Path) -> None:
    space = {"ipc": [1]}
    one = planned_trials(sweep_config(tmp_path, space), "/runs", no_images)
    other = planned_trials(
        sweep_config(tmp_path, space, cluster__num_actors=7, sweep__max_concurrent=4), "/moved", no_images
    )
    assert one[0].key == other[0].key
    assert planned_trials(sweep_config(tmp_path, space, seed=1), "/runs", no_images)[0].key != one[0].key


def test_a_trial_of_other_images_or_other_code_has_another_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = sweep_config(tmp_path, {"ipc": [1]})
    before = planned_trials(config, "/runs", no_images)[0].key
    assert planned_trials(config, "/runs", lambda config: ["other"])[0].key != before
    monkeypatch.setitem(STAGES, "recover", replace(STAGES["recover"], version=99))
    assert planned_trials(config, "/runs", no_images)[0].key != before


@pytest.mark.parametrize(
    ("space", "search", "message"),
    [
        ({"recover.iteration": [1]}, "grid", r"Did you mean 'recover\.iterations'"),
        ({"recover.iterations": [0]}, "grid", r"recover\.iterations"),
        ({"ipc": {"uniform": [1, 2]}}, "grid", "not a list of values"),
        ({"ipc": {"normal": [1, 2]}}, "random", "has an unknown form"),
        ({"ipc": {"randint": [5, 2]}}, "random", "has an unknown form"),
        ({"storage.root": ["/elsewhere"]}, "grid", "cannot hold"),
        ({}, "grid", "is empty"),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_before_anything_starts(
    tmp_path: Path, space: dict[str, Any], search: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        planned_trials(sweep_config(tmp_path, space, sweep__search=search), "/runs", no_images)
