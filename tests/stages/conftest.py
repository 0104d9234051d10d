"""Around each test that works with tiny runs: memory is freed, and one thread computes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from edc_ray.stages.units.context import StageContext


@pytest.fixture(autouse=True)
def forgotten_runs(shapes: str, finished: StageContext) -> Iterator[None]:
    """Runs that a test makes in memory go with it: fsspec searches all files there for each question."""
    kept = set(MemoryFileSystem.store)
    yield
    for path in set(MemoryFileSystem.store) - kept:
        del MemoryFileSystem.store[path]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Forwards of a test itself, outside of a unit, use one core and sum in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
