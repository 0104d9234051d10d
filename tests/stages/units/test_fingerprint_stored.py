"""The fingerprints of an existing config never change, because finished work is found by them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edc_ray.config.load import load_recipe
from edc_ray.stages.pipeline import STAGES
from edc_ray.stages.units.fingerprint import stage_fingerprint
from tests.config.write_resolved import names

# Of all recipes and methods, as commit f7d5578 gave them.
STORED = json.loads((Path(__file__).parent / "fingerprints_of_f7d5578.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", STORED)
def test_all_stages_have_the_fingerprints_of_f7d5578(name: str) -> None:
    known = {f"{dataset}_{method}_ipc{ipc}": (dataset, method, ipc) for dataset, method, ipc in names()}
    dataset, method, ipc = known[name]
    config = load_recipe(dataset, [f"method={method}", f"ipc={ipc}"])
    assert {name: stage_fingerprint(config, stage) for name, stage in STAGES.items()} == STORED[name]
