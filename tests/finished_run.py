"""One finished tiny run for tests of stages, runs and sharing. A test that changes a run copies it first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from edc_ray.config.run import StageName

if TYPE_CHECKING:
    from edc_ray.stages.units.context import StageContext


@pytest.fixture(scope="session")
def shapes() -> str:
    from tests.stages.tiny_runs import shapes_url

    return shapes_url()


@pytest.fixture(scope="session")
def finished(shapes: str) -> StageContext:
    """A run with all stages done. Nothing may change it."""
    from tests.stages.tiny_runs import run_until, tiny_context

    context = tiny_context()
    run_until(context, "evaluate")
    return context


@pytest.fixture
def copied(finished: StageContext) -> Callable[..., StageContext]:
    """`copied("evaluate", ipc=3)`: a copy of the finished run without that stage, with other fields."""
    from tests.stages.tiny_runs import copy_root, tiny_context

    def copy(*leave_out: StageName, **fields: Any) -> StageContext:
        return tiny_context(copy_root(finished.store, leave_out=leave_out), **fields)

    return copy
