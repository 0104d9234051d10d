"""No stage reads or changes the random state of the process, because it belongs to the caller."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from edc_ray.config.run import STAGE_NAMES
from edc_ray.stages.pipeline import run_pipeline
from edc_ray.stages.units.context import StageContext
from tests.stages.tiny_runs import shard_hashes, tiny_context

# The things that draw most: dropout in a student, real images for local statistics, RandAugment.
FIELDS: dict[str, Any] = {
    "evaluate__students": ["mobilenet_v3_small"],
    "evaluate__seeds": 1,
    "evaluate__rows": ["condensed", "random"],
    "relabel__epochs": 2,
    "relabel__rand_augment": True,
    "relabel__patch_shuffle": 2,
    "recover__iterations": 2,
    "recover__drop_rate": 0.5,
    "recover__category_aware": "local",
    "recover__flatness_weight": 1.0,
}


def _seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _states() -> tuple[Any, ...]:
    numpys: Any = np.random.get_state()
    return (
        random.getstate(),
        repr([list(part) for part in numpys[:2]]),
        numpys[2:],
        torch.get_rng_state().tolist(),
    )


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    numpys, pythons, torchs = np.random.get_state(), random.getstate(), torch.get_rng_state()
    yield
    np.random.set_state(numpys)
    random.setstate(pythons)
    torch.set_rng_state(torchs)


def _run(seed: int) -> StageContext:
    context = tiny_context(**FIELDS)
    for stage in STAGE_NAMES:
        _seed_everything(seed)
        before = _states()
        run_pipeline(context, [stage])
        assert _states() == before, f"{stage} drew from a global generator, or seeded it"
    return context


def test_no_stage_reads_or_changes_a_global_generator() -> None:
    assert shard_hashes(_run(1)) == shard_hashes(_run(2))
