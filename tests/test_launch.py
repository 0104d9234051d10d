from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import edc_ray.launch
from edc_ray.artifacts.storage.store import open_store
from edc_ray.config.run import STAGE_NAMES, RunConfig
from edc_ray.errors import ConfigError, UnitsFailedError
from edc_ray.launch import Output, launch, launch_sweep, run_trial, summary
from edc_ray.report.run_report import result_rows

Config = Callable[..., RunConfig]
ONE_STUDENT: dict[str, Any] = {"evaluate.rows": ["condensed"], "evaluate.seeds": 1}


def event(kind: str, stage: str, done: int = 1) -> dict[str, Any]:
    return {"event": kind, "stage": stage, "seconds": 0.5, "units_done": done, "units_reused": 2, "meta": {}}


def test_a_summary_holds_the_stages_that_ended_however_they_ended(tiny_run: Path) -> None:
    events = [
        {"event": "stage_started", "stage": "squeeze", "units": 3},
        event("stage_done", "squeeze"),
        event("stage_reused", "init", done=0),
        event("stage_failed", "recover"),
    ]
    stages = summary(open_store(str(tiny_run), writable=False), events)["stages"]
    assert list(stages) == ["squeeze", "init", "recover"]
    assert stages["recover"] == {"seconds": 0.5, "units_done": 1, "units_reused": 2}


def test_the_summary_of_a_partial_set_holds_no_accuracy_of_students(tiny_run: Path) -> None:
    store = open_store(str(tiny_run), writable=False)
    assert summary(store, [], whole=False)["rows"] == []
    assert len(summary(store, [])["rows"]) == 5


def test_the_summary_of_a_run_that_has_nothing_yet_is_empty(tmp_path: Path) -> None:
    assert summary(open_store(str(tmp_path)), []) == {
        "run": str(tmp_path), "rows": [], "stages": {}, "observers": {}, "matching_loss": None,
    }  # fmt: skip


def test_a_run_without_recovery_has_no_matching_loss_and_the_initial_images(
    tiny_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(tmp_path, method="rded", **{"tracking.tensorboard": False})
    launch(config, STAGE_NAMES[:4], Output(as_json=True, quiet=True))
    found = json.loads(capsys.readouterr().out)
    assert found["matching_loss"] is None
    assert found["stages"]["recover"]["units_done"] == 5


def test_what_more_classes_leave_alone_is_told_before_work(
    tiny_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields: dict[str, Any] = {
        "init.kind": "noise", "init.classes_per_unit": 2, "dataset.mean": [0.3], "dataset.std": [0.2],
        "tracking.tensorboard": False,
    }  # fmt: skip
    for names in (["3", "1"], ["3", "1", "4"]):
        config = tiny_config(tmp_path, **fields, **{"dataset.class_names": names})
        launch(config, ["squeeze", "init"], Output(as_json=True, quiet=True))
    told = capsys.readouterr()
    assert "classes: 3 now, 2 before; added 4\n" in told.err
    assert "  init        kept 1, to make 1: 1 with added classes\n" in told.err
    stages = json.loads(told.out.splitlines()[-1])["stages"]
    assert (stages["init"]["units_done"], stages["init"]["units_reused"]) == (1, 1)


def test_ray_is_started_only_for_units_that_are_missing(
    tiny_config: Config, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_run, tmp_path / "digits")
    started = []

    def start(*_: object) -> Any:
        started.append(True)
        return SimpleNamespace(device_type="cuda")

    monkeypatch.setattr(edc_ray.launch, "_started_ray", start)
    config = tiny_config(tmp_path, **{"cluster.address": "local"})
    launch(config, STAGE_NAMES, Output(quiet=True))
    assert not started
    (tmp_path / "digits" / "results" / "records").rename(tmp_path / "records")
    (tmp_path / "digits" / "results" / "manifest.json").write_text("damaged")
    with pytest.raises(ConfigError, match="made on another device") as caught:
        launch(config, STAGE_NAMES, Output(quiet=True))
    assert (started, caught.value.expected) == ([True], "cpu")


def test_a_trial_returns_the_line_of_its_row(tiny_config: Config, tiny_run: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "digits")
    result = run_trial(tiny_config(tmp_path, **{"sweep.row": "init"}))
    (line,) = [row for row in result_rows(open_store(str(tiny_run), writable=False)) if row.row == "init"]
    assert (result["row"], result["student"], result["n"]) == ("init", "convnet_d1", 2)
    assert (result["top1_mean"], result["top1_std"]) == (line.top1_mean, line.top1_std)


def test_a_sweep_keeps_its_good_trials_and_ends_with_the_failed_ones(
    tiny_config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"sweep.space": {"recover.matching_weight": [0.01, 1e300]}}
    config = tiny_config(tmp_path, **ONE_STUDENT, **space)
    with pytest.raises(UnitsFailedError, match="sweep: 1 of 2 trials failed") as failed:
        launch_sweep(config, Output(as_json=True, quiet=True))
    assert "NumericalError" in str(failed.value)
    good, bad = json.loads(capsys.readouterr().out)["trials"]
    assert (good["fields"], good["reused"], good["n"]) == ({"recover.matching_weight": 0.01}, False, 1)
    assert "top1_mean" not in bad
    with pytest.raises(UnitsFailedError):
        launch_sweep(config, Output(quiet=True))
    table = capsys.readouterr().out
    assert f"{good['top1_mean']:.2f} ± -" in table
    assert "failed" in table
