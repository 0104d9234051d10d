"""Stores of the three kinds: this process's memory, local files, and S3 (moto on a loopback port)."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from edc_ray.artifacts.storage.store import Store, open_store


@pytest.fixture(params=["memory", "file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory":
        return open_store(f"memory://{uuid.uuid4().hex}/run")
    return open_store(str(tmp_path / "run") if request.param == "file" else request.getfixturevalue("s3_url"))


@pytest.fixture
def local_store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "run"))
