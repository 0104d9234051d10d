"""One finished tiny run for all tests of the stages. Tests that change a run change a copy of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from edc_ray.config.run import StageName
from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import copy_root, run_until, shapes_url, tiny_context


@pytest.fixture(scope="session")
def shapes() -> str:
    return shapes_url()


@pytest.fixture(autouse=True)
def forgotten_runs(shapes: str, finished: StageContext) -> Iterator[None]:
    """Runs that a test makes in memory go with it: fsspec searches all files there for each question."""
    kept = set(MemoryFileSystem.store)
    yield
    for path in set(MemoryFileSystem.store) - kept:
        del MemoryFileSystem.store[path]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Forwards of a test itself, outside of a unit, take no second core and add up in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def finished(shapes: str) -> StageContext:
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
