from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edc_ray.errors import ArtifactError, ConfigError
from edc_ray.runs.stored_run import StageState, stage_states, stored_run


def test_stages_are_complete_incomplete_damaged_or_not_there(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "digits"
    shutil.copytree(tiny_run, run)
    (run / "condensed" / "manifest.json").unlink()
    (run / "condensed" / "records" / "classes-00000-00001_ipc-00000-00000.json").unlink()
    (run / "init" / "manifest.json").write_text("{")
    shutil.rmtree(run / "results")
    states = stage_states(stored_run(str(run)))
    assert states["squeeze"] == StageState("complete", 1)
    assert states["recover"] == StageState("incomplete", 4)
    assert states["init"] == StageState("damaged", 1)
    assert states["evaluate"] == StageState("not there", 0)


def test_a_damaged_manifest_of_an_export_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match="is damaged"):
        stage_states(stored_run(str(tmp_path)))


def test_an_empty_folder_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no run at"):
        stored_run(str(tmp_path))
