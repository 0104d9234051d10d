"""Fingerprints never change for a config that has been there: finished work is found by them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edc_ray.config.load import load_recipe
from edc_ray.config.run import STAGE_NAMES
from tests.config.write_resolved import names

# Of all recipes and methods, as commit f7d5578 gave them.
STORED = json.loads((Path(__file__).parent / "fingerprints_of_f7d5578.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", STORED)
def test_all_stages_have_the_fingerprints_of_f7d5578(name: str) -> None:
    known = {f"{dataset}_{method}_ipc{ipc}": (dataset, method, ipc) for dataset, method, ipc in names()}
    dataset, method, ipc = known[name]
    config = load_recipe(dataset, [f"method={method}", f"ipc={ipc}"])
    assert {stage: config.fingerprint(stage) for stage in STAGE_NAMES} == STORED[name]
