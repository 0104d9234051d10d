"""A run that an earlier version finished stays finished: nothing of it is made again.

`run_of_f7d5578` is the folder of a digits run that commit f7d5578 made, without its report. scikit-learn
ships the images. Should a release change them, opening the run fails with "was made from other images",
and the fixture must be made again from that commit.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from edc_ray.config.load import load_yaml
from edc_ray.config.run import STAGE_NAMES
from edc_ray.runs.open_run import open_inputs, open_run
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.units.context import StageContext

STORED = Path(__file__).parent / "run_of_f7d5578"


def opened(folder: Path, *overrides: str) -> StageContext:
    """The run in `folder`, a copy of the stored one, by its own run.yaml."""
    config = load_yaml(
        (folder / "run.yaml").read_text(encoding="utf-8"), [f"storage.root={folder.parent}", *overrides]
    )
    return open_run(open_inputs(config), torch.device("cpu"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(STORED, tmp_path / "tiny"))


def test_a_run_of_f7d5578_is_complete_and_nothing_is_made(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    events = []
    reports = run_pipeline(opened(folder), on_event=events.append)
    assert [event["event"] for event in events] == ["stage_reused"] * len(STAGE_NAMES)
    assert {report.stage: (report.units_done, report.units_reused) for report in reports} == {
        "squeeze": (0, 2), "statistics": (0, 1), "init": (0, 1), "recover": (0, 5), "relabel": (0, 1),
        "evaluate": (0, 2),
    }  # fmt: skip
    changed = {path.name for path, content in before.items() if path.read_bytes() != content}
    assert changed <= {"run.yaml"}


def test_a_value_of_its_own_is_not_covered_by_that(folder: Path) -> None:
    reports = run_pipeline(opened(folder, "evaluate.seeds=2"), ["evaluate"])
    assert [(report.units_done, report.units_reused) for report in reports] == [(2, 2)]
