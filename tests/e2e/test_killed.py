"""SIGKILL in the middle of recover: finished work is kept, the rest has the bytes of an undisturbed run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from edc_ray.config.run import RunConfig
from edc_ray.launch import launch
from edc_ray.runs.open_run import open_inputs, open_run
from edc_ray.stages.pipeline import run_pipeline
from tests.e2e.calm_runs import TEN_UNITS, UP_TO_RECOVER, finished_again, start
from tests.e2e.stored import recover_records, stored_hashes


def kill_in_the_middle_of_recover(process: subprocess.Popen[bytes], folder: Path) -> list[str]:
    """Waits for the first finished unit, kills the process and returns what was finished."""
    until = time.monotonic() + 200
    while not recover_records(folder / "digits"):
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < until, (folder / "log").read_text()
        time.sleep(0.01)
    process.kill()
    process.wait()
    return recover_records(folder / "digits")


@pytest.mark.parametrize(
    "address", [pytest.param(address, marks=pytest.mark.xdist_group("ray")) for address in ("none", "local")]
)
def test_a_killed_driver_costs_only_the_units_in_flight(
    address: str, calm_run: Path, tiny_config: Callable[..., RunConfig], tmp_path: Path
):
    slow = {**TEN_UNITS, "cluster.address": address, "cluster.num_actors": 1, "cluster.cpus_per_actor": 0.5}
    for folder in ("squeeze", "statistics", "init"):
        shutil.copytree(calm_run / folder, tmp_path / "digits" / folder)
    process = start(tiny_config(tmp_path, **slow), tmp_path)
    try:
        finished = kill_in_the_middle_of_recover(process, tmp_path)
    finally:
        process.kill()
    assert not (tmp_path / "digits" / "condensed" / "manifest.json").exists()
    counts = finished_again(tiny_config(tmp_path, **TEN_UNITS), tmp_path)
    assert counts["reused"] >= len(finished) > 0
    assert counts["done"] == 10 - counts["reused"]
    assert stored_hashes(tmp_path / "digits", UP_TO_RECOVER) == stored_hashes(calm_run, UP_TO_RECOVER)


def actor_processes() -> Iterator[int]:
    """Actors of the Ray that this process started: they are the children of its children."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            title = (entry / "cmdline").read_bytes()
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            grandparent = int(Path(f"/proc/{parent}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            continue
        if title.startswith(b"ray::StageActor") and grandparent == os.getpid():
            yield int(entry.name)


def test_a_killed_actor_is_replaced_and_the_images_are_those_of_a_calm_run(
    calm_run: Path, tiny_config: Callable[..., RunConfig], tmp_path: Path, ray_of_tests: None
):
    from edc_ray.cluster.driver import ray_executor

    on_ray = {**TEN_UNITS, "cluster.address": "local", "cluster.num_actors": 2}
    killed: list[int] = []

    def kill_one(event: dict[str, Any]) -> None:
        if event["event"] == "unit_done" and event["stage"] == "recover" and not killed:
            killed.append(next(actor_processes()))
            os.kill(killed[0], signal.SIGKILL)

    for folder in ("squeeze", "statistics", "init"):
        shutil.copytree(calm_run / folder, tmp_path / "digits" / folder)
    inputs = open_inputs(tiny_config(tmp_path, **on_ray))
    with ray_executor(inputs.config) as execute:
        context = open_run(inputs, torch.device("cpu"))
        run_pipeline(context, UP_TO_RECOVER, execute=execute, on_event=kill_one)
    assert len(killed) == 1
    assert stored_hashes(tmp_path / "digits", UP_TO_RECOVER) == stored_hashes(calm_run, UP_TO_RECOVER)


def test_half_written_files_of_a_killed_run_are_never_read(
    calm_run: Path, tiny_config: Callable[..., RunConfig], tmp_path: Path
):
    config = tiny_config(tmp_path, **TEN_UNITS)
    launch(config, UP_TO_RECOVER[:-1])
    # A crash may leave a shard without a record, a record whose shard was cut, or a temporary file.
    condensed, calm = tmp_path / "digits" / "condensed", calm_run / "condensed"
    (condensed / "records").mkdir(parents=True)
    first, second, third = recover_records(calm_run)[:3]
    (condensed / f"{first}.parquet").write_bytes((calm / f"{first}.parquet").read_bytes()[:100])
    (condensed / f"{second}.parquet").write_bytes((calm / f"{second}.parquet").read_bytes()[:-1])
    record = json.loads((calm / "records" / f"{second}.json").read_text())
    (condensed / "records" / f"{second}.json").write_text(json.dumps(record))
    (condensed / "records" / f"{third}.json").write_text('{"stage": "rec')
    counts = finished_again(config, tmp_path)
    assert counts == {"done": 10, "reused": 0}
    assert stored_hashes(tmp_path / "digits", UP_TO_RECOVER) == stored_hashes(calm_run, UP_TO_RECOVER)
