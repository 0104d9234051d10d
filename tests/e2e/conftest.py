from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edc_ray.config.run import RunConfig
from edc_ray.launch import launch
from tests.e2e.calm_runs import TEN_UNITS, UP_TO_RECOVER


@pytest.fixture(scope="session")
def calm_run(tiny_config: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run; not to be changed."""
    root = tmp_path_factory.mktemp("calm")
    launch(tiny_config(root, **TEN_UNITS), UP_TO_RECOVER)
    return root / "digits"
