from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edc_ray.cluster.tune import run_sweep
from edc_ray.config.load import with_fields
from edc_ray.config.run import RunConfig
from edc_ray.errors import NumericalError
from tests.cluster.fake_stage import fake_config


def fake_trial(config: RunConfig) -> dict[str, Any]:
    runs = Path(config.storage.root or "")
    (runs / "tries").mkdir(parents=True, exist_ok=True)
    with (runs / "tries" / f"{config.recover.iterations}").open("a") as tries:
        tries.write("x")
    if config.recover.iterations == 3:
        raise NumericalError("recover: the loss is NaN")
    return {
        "top1": 10.0 * config.recover.iterations,
        "root": config.storage.root,
        "address": config.cluster.address,
    }


def images_of(config: RunConfig) -> list[str]:
    return ["the same images"]


def sweep_config(folder: Path, space: dict[str, Any], **fields: Any) -> RunConfig:
    return fake_config(folder, run__name="search", sweep__space=space, **fields)


@pytest.mark.parametrize("address", ["local", "none"])
def test_a_sweep_reports_failed_trials_and_reuses_finished_ones(
    ray_of_tests: None, tmp_path: Path, address: str
) -> None:
    config = sweep_config(
        tmp_path, {"recover.iterations": [1, 3]}, cluster__address=address, sweep__max_concurrent=2
    )
    rows = run_sweep(config, fake_trial, images_of)
    assert [row["fields"] for row in rows] == [{"recover.iterations": value} for value in (1, 3)]
    assert [row.get("top1") for row in rows] == [10.0, None]
    assert rows[1]["error"] == "NumericalError: recover: the loss is NaN"
    assert rows[0]["address"] == "none"
    assert rows[0]["root"] == str(tmp_path / "search/sweep")
    assert not any(row["reused"] for row in rows)

    again = run_sweep(with_fields(config, {"cluster.address": "none"}), fake_trial, images_of)
    assert [row["reused"] for row in again] == [True, False]
    assert [row.get("top1") for row in again] == [10.0, None]
    tries = {path.name: len(path.read_text()) for path in (tmp_path / "search/sweep/tries").iterdir()}
    assert tries == {"1": 1, "3": 2}
