"""One finished tiny run for all tests of the stages. Tests that change a run change a copy of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from edc_ray.config.run import StageName
from edc_ray.stages.context import StageContext
from tests.stages.tiny_runs import copy_root, run_until, tiny_context


@pytest.fixture(scope="session")
def finished() -> StageContext:
    """A run with all stages done. Nothing may change it."""
    context = tiny_context()
    run_until(context, "evaluate")
    return context


@pytest.fixture
def copied(finished: StageContext) -> Callable[..., StageContext]:
    """`copied("evaluate", ipc=3)`: a copy of the finished run without that stage, with other fields."""

    def copy(*leave_out: StageName, **fields: Any) -> StageContext:
        return tiny_context(copy_root(finished.store, leave_out=leave_out), **fields)

    return copy
