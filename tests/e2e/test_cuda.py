"""On a CUDA device: the same results as on a CPU within a tolerance, and the same bytes when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from edc_ray.artifacts.tables.codec import arrays_from_bytes, table_from_bytes
from edc_ray.artifacts.tables.schema import read_images_table
from edc_ray.config.load import with_fields
from edc_ray.config.run import STAGE_NAMES, RunConfig, StageName
from edc_ray.core.layers.layout_free import LayoutFreeKernels
from edc_ray.core.layers.measured_input import StatisticKernels
from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.layers.network_numerics import NetworkNumerics
from edc_ray.core.layers.torch_kernels import TORCH_KERNELS
from edc_ray.core.recover.matching import LayerTarget
from edc_ray.core.recover.state import IterationReport, LoopState, Observer
from edc_ray.core.seeding import Draws, draws
from edc_ray.kernels.cpu.statistics import kernels_for
from edc_ray.launch import launch
from edc_ray.stages.pipeline import STAGES
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.numerics import network_numerics, unit_numerics
from tests.core.tiny_observers import SETTINGS, Bench, random_images
from tests.e2e.stored import stored_hashes
from tests.stages.tiny_runs import run_until, tiny_context, units_of

DEVICE = "cuda"

pytestmark = pytest.mark.gpu


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
        with unit_numerics(there.config, there.device):
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
            # The error of a sum of products is that of its largest terms' rounding, even if the sum is small.
            scale = float(np.abs(values).max()) if values.size else 0.0
            np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-4 * scale, err_msg=name)
            compared += values.size
    assert compared > 1000


def test_images_recovered_on_cuda_equal_those_on_a_cpu_to_a_level_of_grey(on_cpu: StageContext) -> None:
    (expected, found) = (
        np.concatenate([_images(data) for data in outputs_on(on_cpu, "recover", device)])
        for device in ("cpu", DEVICE)
    )
    # Adam divides by the size of a gradient. If that is only rounding, a pixel may go the other way.
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
        launch(tiny_config(tmp_path / name, **fields), STAGE_NAMES)
    first, second = (stored_hashes(tmp_path / name / "digits") for name in ("first", "second"))
    assert any(path.startswith("recover/") for path in first)
    assert first == second


def test_trainings_at_the_same_time_on_cuda_make_the_bytes_of_one_after_the_other(
    tiny_config: Callable[..., RunConfig], tmp_path: Path
) -> None:
    """Captured steps of several observers and students, shared labels, and a network that trains alone."""
    networks = ["convnet_d1", "convnet_d2", "resnet18_small", "tests.stages.side_by_side.drops_out:DropsOut"]
    fields: dict[str, Any] = {
        "device": DEVICE, "deterministic": True, "cluster.address": "none", "squeeze.epochs": 4,
        "squeeze.observers": networks, "relabel.epochs": 4, "evaluate.students": networks,
        "evaluate.rows": ["condensed", "init", "random"], "evaluate.seeds": 1, "evaluate.save_students": True,
    }  # fmt: skip
    for at_once in (1, 4):
        launch(
            tiny_config(tmp_path / str(at_once), **fields | {"cluster.trainings_per_actor": at_once}),
            STAGE_NAMES,
        )
    one, four = (stored_hashes(tmp_path / str(at_once) / "digits") for at_once in (1, 4))
    assert len([path for path in one if path.startswith("evaluate/")]) >= 3 * 4 * 3
    assert one == four


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_images_of_networks_of_sixteen_bits_are_near_those_of_float32(
    on_cpu: StageContext, precision: str
) -> None:
    half = with_fields(on_cpu.config, {"precision": precision})
    there = StageContext(half, on_cpu.store, on_cpu.data, on_cpu.device)
    (expected, found) = (
        np.concatenate([_images(data) for data in outputs_on(context, "recover", DEVICE)]).astype(np.int64)
        for context in (on_cpu, there)
    )
    initial = np.concatenate([_images(data) for data in outputs_on(on_cpu, "init", "cpu")]).astype(np.int64)
    assert 0 < np.abs(found - expected).mean() < 0.3 * np.abs(expected - initial).mean()


def _bench_on_device(numerics: NetworkNumerics, kernels: StatisticKernels = TORCH_KERNELS) -> Bench:
    bench = Bench()
    bench.observers = [
        Observer.of(one.name, one.network.to(DEVICE), kernels=kernels, numerics=numerics)
        for one in bench.observers
    ]
    bench.targets = {
        name: {
            layer: LayerTarget(
                _moved(target.global_), None if target.classes is None else _moved(target.classes)
            )
            for layer, target in layers.items()
        }
        for name, layers in bench.targets.items()
    }
    return bench


def _moved(statistics: LayerStatistics) -> LayerStatistics:
    return LayerStatistics(*(each.to(DEVICE) for each in statistics.quantities))


def _start() -> LoopState:
    return LoopState.start(random_images(3, 5).to(DEVICE))


NUMERICS = {
    "float32": (NetworkNumerics(), TORCH_KERNELS),
    "bfloat16": (NetworkNumerics(torch.bfloat16, torch.channels_last), LayoutFreeKernels()),
    "float16": (NetworkNumerics(torch.float16, torch.channels_last), LayoutFreeKernels()),
}


@pytest.mark.parametrize("way", list(NUMERICS))
def test_no_iteration_of_recover_waits_for_the_device(way: str) -> None:
    settings = replace(SETTINGS, iterations=12, drop_rate=0.5, flatness_weight=0.5, tv_l2_weight=0.1)
    reports: list[IterationReport] = []

    def watched(iteration: int) -> Draws:
        if iteration == 4:  # both observers have run, with every layer seen
            torch.cuda.set_sync_debug_mode("error")
        return draws(0, iteration)

    def keep(report: IterationReport) -> None:
        reports.append(report)
        if report.iteration == settings.iterations - 1:
            torch.cuda.set_sync_debug_mode("default")

    try:
        _bench_on_device(*NUMERICS[way]).run(_start(), settings, draws=watched, on_iteration=keep)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len([report.loss for report in reports]) == settings.iterations


@pytest.mark.nightly
@pytest.mark.parametrize("choice", ["default", "graphs"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_compiled_and_captured_steps_of_recover_make_the_images_of_plain_ones(
    on_cpu: StageContext, precision: str, choice: str
) -> None:
    settings = replace(SETTINGS, iterations=8, flatness_weight=0.5)
    found = {}
    for compile in ("none", choice):
        config = with_fields(on_cpu.config, {"precision": precision, "compile": compile})
        numerics = network_numerics(config, torch.device(DEVICE))
        kernels = kernels_for(torch.device(DEVICE), numerics.memory_format)
        found[compile] = _bench_on_device(numerics, kernels).run(_start(), settings).images
    tolerance = 1e-4 if precision == "float32" else 2e-2
    assert (found[choice] - found["none"]).abs().mean() < tolerance


def _images(data: bytes) -> np.ndarray:
    return read_images_table(table_from_bytes(data, url="a shard")).images
