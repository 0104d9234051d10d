from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

import edc_ray.launch
from edc_ray.artifacts.storage.store import open_store
from edc_ray.config.load import with_fields
from edc_ray.config.run import STAGE_NAMES, RunConfig
from edc_ray.errors import ConfigError, DataError, ResourceError
from edc_ray.launch import launch, run_trial
from edc_ray.report.run_report import result_rows, run_summary

Config = Callable[..., RunConfig]


def test_a_run_without_recovery_has_no_matching_loss_and_the_initial_images(
    tiny_config: Config, tmp_path: Path
) -> None:
    config = tiny_config(tmp_path, method="rded", **{"tracking.tensorboard": False})
    events: list[dict[str, Any]] = []
    found = run_summary(launch(config, STAGE_NAMES[:4], events.append), events)
    assert found["matching_loss"] is None
    assert found["stages"]["recover"]["units_done"] == 5


def test_what_more_classes_leave_alone_is_told_before_work(tiny_config: Config, tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "init.kind": "noise", "init.classes_per_unit": 2, "dataset.mean": [0.3], "dataset.std": [0.2],
        "tracking.tensorboard": False,
    }  # fmt: skip
    events: list[dict[str, Any]] = []
    for names in (["3", "1"], ["3", "1", "4"]):
        events.clear()
        launch(
            tiny_config(tmp_path, **fields, **{"dataset.class_names": names}),
            ["squeeze", "init"],
            events.append,
        )
    kinds = [event["event"] for event in events]
    notes = [event["text"] for event in events if event["event"] == "note"]
    assert "classes: 3 now, 2 before; added 4" in notes
    assert "  init        kept 1, to make 1: 1 with added classes" in notes
    assert kinds.index("run_opened") > max(place for place, kind in enumerate(kinds) if kind == "note")
    (made,) = [event for event in events if event["event"] == "stage_done" and event["stage"] == "init"]
    assert (made["units_done"], made["units_reused"]) == (1, 1)


def test_ray_is_started_only_for_units_that_are_missing(
    tiny_config: Config, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_run, tmp_path / "digits")
    started = []

    def start(*_: object) -> Any:
        started.append(True)
        return SimpleNamespace(device_type="cuda")

    monkeypatch.setattr(edc_ray.launch._Workers, "_start", start)
    config = tiny_config(tmp_path, **{"cluster.address": "local"})
    launch(config, STAGE_NAMES)
    assert not started
    (tmp_path / "digits" / "results" / "records").rename(tmp_path / "records")
    (tmp_path / "digits" / "results" / "manifest.json").write_text("damaged")
    with pytest.raises(ConfigError, match="made on another device") as caught:
        launch(config, STAGE_NAMES)
    assert (started, caught.value.expected) == ([True], "cpu")


def test_the_folder_of_a_complete_run_that_grows_says_who_works_there(
    tiny_config: Config, tiny_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_run, tmp_path / "digits")
    lease, seen = tmp_path / "digits" / "lease.json", []

    def look(event: dict[str, Any]) -> None:
        if event["event"] in ("unit_done", "stage_reused"):
            seen.append((event["event"], lease.exists()))

    launch(tiny_config(tmp_path), STAGE_NAMES, look)
    assert set(seen) == {("stage_reused", False)}
    seen.clear()
    config = tiny_config(tmp_path)
    launch(with_fields(config, {"evaluate.seeds": config.evaluate.seeds + 1}), STAGE_NAMES, look)
    assert ("unit_done", True) in seen
    assert ("unit_done", False) not in seen
    assert not lease.exists()


def test_a_small_run_needs_no_ray_and_a_line_says_so(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edc_ray.launch._Workers, "start", None)
    events: list[dict[str, Any]] = []
    launch(tiny_config(tmp_path, **{"cluster.address": None}), ["squeeze"], events.append)
    (line,) = [event["text"] for event in events if event["event"] == "note" and "Ray" in event["text"]]
    assert line == "in this process: one worker does it well (cluster.address=local: on Ray)"
    notes = [event["text"] for event in events if event["event"] == "note"]
    assert "device: cpu, float32, 1 thread for each unit" in notes


def test_workers_start_while_the_data_is_opened_if_there_are_several_gpus(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order, has_started = list[str](), Event()

    def start(*_: object) -> Any:
        order.append("workers")
        has_started.set()
        return SimpleNamespace(device_type="cuda")

    def open_slowly(config: RunConfig) -> Any:
        assert has_started.wait(10)
        order.append("data")
        raise DataError("no images")

    monkeypatch.setattr(edc_ray.launch._Workers, "_start", start)
    monkeypatch.setattr(edc_ray.launch, "open_inputs", open_slowly)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(DataError, match="no images"):
        launch(tiny_config(tmp_path, **{"cluster.address": None, "device": "auto"}), STAGE_NAMES)
    assert order == ["workers", "data"]


def test_a_device_that_this_machine_lacks_is_refused_before_ray_starts(
    tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(edc_ray.launch._Workers, "start", lambda *_: pytest.fail("Ray was started"))
    with pytest.raises(ResourceError, match="torch finds no GPU") as caught:
        launch(tiny_config(tmp_path, device="cuda", **{"cluster.address": "local"}), STAGE_NAMES)
    assert caught.value.exit_status == 2


def test_a_trial_returns_the_line_of_its_row(tiny_config: Config, tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "digits")
    result = run_trial(tiny_config(tmp_path, **{"sweep.row": "init"}))
    (line,) = [row for row in result_rows(open_store(str(tiny_run), writable=False)) if row.row == "init"]
    assert (result["row"], result["student"], result["n"]) == ("init", "convnet_d1", 2)
    assert (result["top1_mean"], result["top1_std"]) == (line.top1_mean, line.top1_std)
