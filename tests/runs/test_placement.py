"""Where a run goes if its config does not say. Machines are made up: GPUs need not be there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edc_ray.config.load import load_recipe, with_fields
from edc_ray.config.run import STAGE_NAMES, RunConfig
from edc_ray.data.real.sources import OpenedDataset
from edc_ray.runs.open_run import open_inputs
from edc_ray.runs.placement import Machine, chosen_place, seconds_of_one_worker, sweep_on_ray, why_ray

SERVER = Machine(cpus=16, gpus=0)
LONG = {"relabel.epochs": 20_000}


def opened(folder: Path, **fields: Any) -> tuple[RunConfig, OpenedDataset]:
    inputs = open_inputs(with_fields(load_recipe("digits"), {"storage.root": str(folder)} | fields))
    return inputs.config, inputs.data


def test_the_demo_is_done_by_one_worker(tmp_path: Path) -> None:
    place = chosen_place(*opened(tmp_path), STAGE_NAMES, SERVER)
    assert not place.on_ray
    assert "cluster.address=local" in str(place.line)


def test_more_work_than_one_cpu_does_well_means_ray(tmp_path: Path) -> None:
    place = chosen_place(*opened(tmp_path, **LONG), STAGE_NAMES, SERVER)
    assert place.on_ray
    assert "of work for one CPU" in str(place.line)


@pytest.mark.parametrize(
    ("machine", "fields"),
    [
        (Machine(cpus=1, gpus=0), {}),
        (Machine(cpus=3, gpus=0), {"cluster.cpus_per_actor": 2}),
        (Machine(cpus=16, gpus=1), {}),
        (SERVER, {"cluster.num_actors": 1}),
        (Machine(cpus=16, gpus=8), {"cluster.num_actors": 1}),
        (SERVER, {"storage.root": "memory://placement"}),
        (Machine(cpus=16, gpus=8), {"storage.root": "memory://placement"}),
    ],
)
def test_long_work_stays_here_where_there_is_room_for_one_worker(
    tmp_path: Path, machine: Machine, fields: dict[str, Any]
) -> None:
    assert not chosen_place(*opened(tmp_path, **LONG, **fields), STAGE_NAMES, machine).on_ray


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, None),
        ({"cluster.num_actors": 3}, "cluster.num_actors=3"),
        ({"cluster.min_actors": 2}, "cluster.min_actors=2"),
        ({"squeeze.num_workers": 2}, "squeeze.num_workers=2"),
        ({"evaluate.num_workers": 2}, "evaluate.num_workers=2"),
        ({"cluster.autoscaling": True}, "cluster.autoscaling=true"),
    ],
)
def test_a_config_that_asks_for_several_workers_means_ray(fields: dict[str, Any], why: str | None) -> None:
    assert why_ray(with_fields(load_recipe("digits"), fields), SERVER) == why


def test_several_gpus_mean_ray_unless_the_config_wants_the_cpu() -> None:
    machine, config = Machine(cpus=16, gpus=4), load_recipe("digits")
    assert why_ray(config, machine) == "4 GPUs"
    assert why_ray(with_fields(config, {"device": "cuda"}), machine) == "4 GPUs"
    assert why_ray(with_fields(config, {"device": "cpu"}), machine) is None
    assert why_ray(config, Machine(cpus=16, gpus=1)) is None
    shared = with_fields(config, {"cluster.gpus_per_actor": 0.5})
    assert why_ray(shared, Machine(cpus=16, gpus=1)) == "cluster.gpus_per_actor=0.5"
    assert why_ray(with_fields(config, {"cluster.gpus_per_actor": 4}), machine) is None
    assert why_ray(with_fields(config, {"cluster.gpus_per_actor": 0}), machine) is None


def test_without_gpus_for_actors_the_work_on_cpus_decides(tmp_path: Path) -> None:
    config, data = opened(tmp_path, **LONG, **{"cluster.gpus_per_actor": 0})
    assert chosen_place(config, data, STAGE_NAMES, Machine(cpus=16, gpus=2)).on_ray


@pytest.mark.parametrize(("limit", "cpus"), [("150000 100000", 1), ("250000 100000", 2), ("max 100000", 16)])
def test_a_containers_limit_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, cpus: int
) -> None:
    (tmp_path / "cpu.max").write_text(limit)
    monkeypatch.setattr("edc_ray.runs.placement._CPU_LIMIT", str(tmp_path / "cpu.max"))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(16))
    assert Machine.this().cpus == cpus


@pytest.mark.parametrize(("address", "on_ray"), [("local", True), ("head:6379", True), ("none", False)])
def test_an_address_decides_without_a_line(tmp_path: Path, address: str, on_ray: bool) -> None:
    place = chosen_place(
        *opened(tmp_path, **{"cluster.address": address}), STAGE_NAMES, Machine(cpus=1, gpus=2)
    )
    assert (place.on_ray, place.line) == (on_ray, None)


def test_a_ray_job_uses_its_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    config = load_recipe("digits")
    assert why_ray(config, Machine(cpus=1, gpus=0)) == "the Ray job"
    assert sweep_on_ray(config)


def test_a_sweep_of_one_trial_at_a_time_stays_here() -> None:
    config = load_recipe("digits")
    assert not sweep_on_ray(config)
    assert sweep_on_ray(with_fields(config, {"sweep.max_concurrent": 2}))
    assert sweep_on_ray(with_fields(config, {"cluster.address": "local"}))
    assert not sweep_on_ray(with_fields(config, {"cluster.address": "none", "sweep.max_concurrent": 2}))


def test_only_the_stages_that_run_count(tmp_path: Path) -> None:
    config, data = opened(tmp_path, **LONG)
    assert not chosen_place(config, data, ["squeeze", "recover"], SERVER).on_ray
    assert chosen_place(config, data, ["evaluate"], SERVER).on_ray


def test_every_stage_adds_to_the_work(tmp_path: Path) -> None:
    least = {"squeeze.epochs": 1, "recover.iterations": 1, "relabel.epochs": 10, "init.images_per_class": 1}
    known = seconds_of_one_worker(*opened(tmp_path, **least), STAGE_NAMES)
    for more in (
        {"squeeze.epochs": 9}, {"recover.iterations": 1000}, {"relabel.epochs": 50}, {"evaluate.seeds": 9},
        {"init.images_per_class": 90}, {"evaluate.students": ["convnet_w32", "wrn_16_2"]}, {"ipc": 5},
    ):  # fmt: skip
        assert seconds_of_one_worker(*opened(tmp_path, **least | more), STAGE_NAMES) > known, more
    noise = {"init.kind": "noise", "recover.enabled": False}
    assert seconds_of_one_worker(*opened(tmp_path, **least | noise), STAGE_NAMES) < known
