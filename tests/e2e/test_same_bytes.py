"""Where units run must not change a bit of what they make."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edc_ray.artifacts.storage.layout import stage_folder
from edc_ray.config.run import STAGE_NAMES, RunConfig
from edc_ray.launch import launch
from tests.e2e.stored import stored_hashes

MANY_UNITS: dict[str, Any] = {
    "squeeze.observers": ["convnet_d1", "convnet_w32"],
    "statistics.batch_size": 40,
    "statistics.batches_per_unit": 3,
    "init.classes_per_unit": 5,
    "recover.classes_per_unit": 4,
    "relabel.epochs": 4,
    "relabel.epochs_per_unit": 2,
    "evaluate.rows": ["condensed", "random"],
}
SPREAD_OVER_ACTORS = ("statistics", "init", "recover", "relabel")


@pytest.fixture(scope="module")
def run_without_ray(tiny_config: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("without_ray")
    launch(tiny_config(root, **MANY_UNITS), STAGE_NAMES)
    return root / "digits"


@pytest.mark.parametrize("num_actors", [1, 2])
def test_actors_and_no_ray_make_the_same_bytes(
    num_actors: int,
    run_without_ray: Path,
    tiny_config: Callable[..., RunConfig],
    tmp_path: Path,
    ray_of_tests: None,
):
    # Ray Train takes half a minute to start: test_ray_job compares what it makes, and the nightly test below.
    shutil.copytree(run_without_ray / "squeeze", tmp_path / "digits" / "squeeze")
    on_ray = {"cluster.address": "local", "cluster.num_actors": num_actors}
    launch(tiny_config(tmp_path, **MANY_UNITS, **on_ray), SPREAD_OVER_ACTORS)
    made = stored_hashes(tmp_path / "digits", SPREAD_OVER_ACTORS)
    assert made == stored_hashes(run_without_ray, SPREAD_OVER_ACTORS)


@pytest.mark.nightly
@pytest.mark.parametrize("num_actors", [1, 2])
def test_every_stage_on_ray_and_no_ray_make_the_same_bytes(
    num_actors: int,
    run_without_ray: Path,
    tiny_config: Callable[..., RunConfig],
    tmp_path: Path,
    ray_of_tests: None,
):
    on_ray = {"cluster.address": "local", "cluster.num_actors": num_actors}
    launch(tiny_config(tmp_path, **MANY_UNITS, **on_ray), STAGE_NAMES)
    assert stored_hashes(tmp_path / "digits") == stored_hashes(run_without_ray)


def test_trainings_at_the_same_time_in_one_actor_make_the_same_bytes(
    run_without_ray: Path, tiny_config: Callable[..., RunConfig], tmp_path: Path, ray_of_tests: None
):
    trained = stage_folder("squeeze"), stage_folder("evaluate")
    shutil.copytree(run_without_ray, tmp_path / "digits", ignore=shutil.ignore_patterns(*trained))
    at_once = {"cluster.address": "local", "cluster.num_actors": 1, "cluster.trainings_per_actor": 3}
    launch(tiny_config(tmp_path, **MANY_UNITS, **at_once), STAGE_NAMES)
    assert stored_hashes(tmp_path / "digits") == stored_hashes(run_without_ray)


def test_each_stage_alone_makes_the_bytes_of_the_whole_pipeline(
    run_without_ray: Path, tiny_config: Callable[..., RunConfig], tmp_path: Path
):
    for stage in STAGE_NAMES:
        launch(tiny_config(tmp_path, **MANY_UNITS), (stage,))
    assert stored_hashes(tmp_path / "digits") == stored_hashes(run_without_ray)
