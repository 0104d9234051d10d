"""On a CUDA device: the same results as on a CPU within a tolerance, and the same bytes when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from edc_ray.artifacts.codec import arrays_from_bytes, table_from_bytes
from edc_ray.artifacts.schema import read_images_table
from edc_ray.config.run import STAGE_NAMES, RunConfig, StageName
from edc_ray.launch import Output, launch
from edc_ray.stages.context import StageContext
from edc_ray.stages.numerics import unit_numerics
from edc_ray.stages.pipeline import STAGES
from tests.e2e.stored import stored_hashes
from tests.stages.tiny_runs import run_until, tiny_context, units_of

DEVICE = "cuda"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]


@pytest.fixture(scope="module")
def on_cpu() -> Iterator[StageContext]:
    """A run made on the CPU up to its condensed images."""
    before = set(MemoryFileSystem.store)
    context = tiny_context()
    run_until(context, "recover")
    yield context
    for path in set(MemoryFileSystem.store) - before:
        del MemoryFileSystem.store[path]


def outputs_on(context: StageContext, stage: StageName, device: str) -> list[bytes]:
    """What each unit of a stage makes on a device, from the same stored inputs. Nothing is stored."""
    there = StageContext(context.config, context.store, context.data, torch.device(device))
    shards = []
    for unit in units_of(there, stage):
        with unit_numerics(there):
            output = STAGES[stage].run_unit(there, unit)
        shards += [data for _, (data, _) in sorted(output.shards.items())]
    return shards


def test_statistics_on_cuda_equal_those_on_a_cpu_to_a_ten_thousandth(on_cpu: StageContext) -> None:
    pairs = zip(
        outputs_on(on_cpu, "statistics", "cpu"), outputs_on(on_cpu, "statistics", DEVICE), strict=True
    )
    compared = 0
    for here, there in pairs:
        expected, found = arrays_from_bytes(here, url="cpu"), arrays_from_bytes(there, url=DEVICE)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            # A sum of products is off by its largest terms' rounding, however small it comes out itself.
            scale = float(np.abs(values).max()) if values.size else 0.0
            np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-4 * scale, err_msg=name)
            compared += values.size
    assert compared > 1000


def test_images_recovered_on_cuda_equal_those_on_a_cpu_to_a_level_of_grey(on_cpu: StageContext) -> None:
    (expected, found) = (
        np.concatenate([_images(data) for data in outputs_on(on_cpu, "recover", device)])
        for device in ("cpu", DEVICE)
    )
    # Adam divides by the size of a gradient: where that is all rounding, a pixel may go the other way.
    off = np.abs(found.astype(np.int64) - expected.astype(np.int64))
    assert np.quantile(off, 0.99) <= 1
    assert off.mean() <= 0.05
    initial = np.concatenate([_images(data) for data in outputs_on(on_cpu, "init", "cpu")])
    assert np.abs(initial.astype(np.int64) - expected.astype(np.int64)).mean() > 1


def test_two_whole_runs_on_cuda_make_the_same_bytes_with_deterministic(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"device": DEVICE, "deterministic": True}
    for name in ("first", "second"):
        launch(tiny_config(tmp_path / name, **fields), STAGE_NAMES, Output(quiet=True))
    first, second = (stored_hashes(tmp_path / name / "digits") for name in ("first", "second"))
    assert any(path.startswith("recover/") for path in first)
    assert first == second


def _images(data: bytes) -> np.ndarray:
    return read_images_table(table_from_bytes(data, url="a shard")).images
