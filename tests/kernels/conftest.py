from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edc_ray.kernels.cpu.library import CACHE_VARIABLE


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a source file to compile, whose library is kept in it and nowhere else."""
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("no C++ compiler on PATH")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path
