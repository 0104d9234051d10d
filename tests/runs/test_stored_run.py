from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edc_ray.config.run import RunConfig
from edc_ray.errors import ArtifactError, ConfigError
from edc_ray.launch import launch
from edc_ray.runs.stored_run import StageState, stage_states, stored_run, trial_states


def test_stages_are_complete_incomplete_damaged_or_not_there(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "digits"
    shutil.copytree(tiny_run, run)
    (run / "condensed" / "manifest.json").unlink()
    (run / "condensed" / "records" / "classes-00000-00001_ipc-00000-00000.json").unlink()
    (run / "init" / "manifest.json").write_text("{")
    shutil.rmtree(run / "results")
    states = stage_states(stored_run(str(run)))
    assert states["squeeze"] == StageState("complete", 1)
    assert states["recover"] == StageState("incomplete", 4)  # the log says that it was complete
    assert states["init"] == StageState("damaged", 1)
    assert states["evaluate"] == StageState("not there", 0)


LOG = [
    {"event": "stage_started", "stage": "recover", "units": 5, "reused": 0},
    {"event": "unit_done", "stage": "recover"},
    {"event": "unit_done", "stage": "init"},
]
AGAIN = [{"event": "stage_done", "stage": "recover"}, *LOG]


@pytest.mark.parametrize(
    ("events", "records", "told"),
    [
        (LOG, 4, "incomplete  4 of 5 units"),  # killed before the log told the others
        (LOG, 7, "incomplete  5 of 5 units"),
        (AGAIN, 5, "incomplete  1 of 5 units"),  # beside records of the earlier config
        ([*AGAIN, LOG[0] | {"reused": 3}], 5, "incomplete  3 of 5 units"),
        ([*LOG, AGAIN[0]], 4, "incomplete  4 units"),
        ([{"event": "stage_started", "stage": "recover", "units": "x"}], 4, "incomplete  4 units"),
        ([], 4, "incomplete  4 units"),
    ],
)
def test_of_an_incomplete_stage_the_units_are_counted_that_the_next_run_finds(
    tmp_path: Path, events: list[dict[str, object]], records: int, told: str
) -> None:
    (tmp_path / "condensed" / "records").mkdir(parents=True)
    for number in range(records):
        (tmp_path / "condensed" / "records" / f"{number}.json").write_text("{}")
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, events)))
    assert str(stage_states(stored_run(str(tmp_path)))["recover"]) == told


def test_a_stage_that_joins_its_units_has_as_many_as_a_run_tells(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    told = []
    config = tiny_config(tmp_path, **{"statistics.batch_size": 100, "statistics.batches_per_unit": 1})
    store = launch(config, ["squeeze", "statistics"], told.append)
    done = {event["stage"]: event["units_done"] for event in told if event["event"] == "stage_done"}
    assert done == {"squeeze": 1, "statistics": 3}
    assert {name: stage_states(store)[name].units for name in done} == done


def test_trials_are_complete_with_what_differs_or_incomplete(tmp_path: Path) -> None:
    for path, text in {
        "a/run.yaml": "", "b/run.yaml": "", "c/run.yaml": "", "trials/c.json": "{",
        "trials/a.json": '{"fields": {"ipc": 2, "recover.iterations": 7}, "result": {}}',
    }.items():  # fmt: skip
        file = tmp_path / "sweep" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert trial_states(stored_run(str(tmp_path))) == {
        "a": "complete    ipc=2 recover.iterations=7", "b": "incomplete", "c": "incomplete",
    }  # fmt: skip


def test_a_damaged_manifest_of_an_export_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match="is damaged"):
        stage_states(stored_run(str(tmp_path)))


def test_an_empty_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no run at"):
        stored_run(str(tmp_path))
