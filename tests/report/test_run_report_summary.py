from __future__ import annotations

from pathlib import Path
from typing import Any

from edc_ray.artifacts.storage.store import open_store
from edc_ray.report.run_report import run_summary


def event(kind: str, stage: str, done: int = 1) -> dict[str, Any]:
    return {"event": kind, "stage": stage, "seconds": 0.5, "units_done": done, "units_reused": 2, "meta": {}}


def test_a_summary_holds_the_stages_that_ended_however_they_ended(tiny_run: Path) -> None:
    events = [
        {"event": "stage_started", "stage": "squeeze", "units": 3},
        event("stage_done", "squeeze"),
        event("stage_reused", "init", done=0),
        event("stage_failed", "recover"),
    ]
    stages = run_summary(open_store(str(tiny_run), writable=False), events)["stages"]
    assert list(stages) == ["squeeze", "init", "recover"]
    assert stages["recover"] == {"seconds": 0.5, "units_done": 1, "units_reused": 2}


def test_the_summary_of_a_partial_set_holds_no_accuracy_of_students(tiny_run: Path) -> None:
    store = open_store(str(tiny_run), writable=False)
    assert run_summary(store, [], whole=False)["rows"] == []
    assert len(run_summary(store, [])["rows"]) == 5


def test_the_summary_of_a_run_that_has_nothing_yet_is_empty(tmp_path: Path) -> None:
    assert run_summary(open_store(str(tmp_path)), []) == {
        "run": str(tmp_path), "rows": [], "stages": {}, "observers": {}, "matching_loss": None,
    }  # fmt: skip
