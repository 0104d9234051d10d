"""Runs up to recover, of ten units there, and the command line in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from edc_ray.config.load import to_yaml
from edc_ray.config.run import RunConfig
from edc_ray.runs.open_run import open_inputs, open_run
from edc_ray.stages.pipeline import run_pipeline

UP_TO_RECOVER = ("squeeze", "statistics", "init", "recover")
TEN_UNITS: dict[str, Any] = {"recover.iterations": 40, "recover.classes_per_unit": 1}
EDC_RAY = str(Path(sys.executable).with_name("edc-ray"))


def start(config: RunConfig, folder: Path) -> subprocess.Popen[bytes]:
    """`edc-ray run` on a config; its output is in the file `log` of the folder."""
    file = folder / "run.yaml"
    file.write_text(to_yaml(config))
    with open(folder / "log", "wb") as log:
        return subprocess.Popen(
            [EDC_RAY, "run", "--config", str(file)], stdout=log, stderr=log, start_new_session=True
        )


def finished_again(config: RunConfig, folder: Path) -> dict[str, int]:
    """Run the same config to the end of recover without Ray; what it reports of the stage."""
    context = open_run(open_inputs(config), torch.device("cpu"))
    reports = run_pipeline(context, UP_TO_RECOVER)
    return {"done": reports[-1].units_done, "reused": reports[-1].units_reused}
