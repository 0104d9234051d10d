"""One small Ray for all tests of the cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

os.environ.setdefault("RAY_AUTH_MODE", "disabled")


@pytest.fixture(scope="session")
def ray_of_tests() -> Iterator[None]:
    import ray

    import edc_ray.cluster  # noqa: F401  (what must be set before ray is imported)

    ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()
