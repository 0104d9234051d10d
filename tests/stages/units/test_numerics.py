"""Precision, compiler, threads, determinism and random state of a run's units."""

from __future__ import annotations

import platform
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edc_ray.config.load import with_fields
from edc_ray.config.run import RunConfig
from edc_ray.errors import ConfigError
from edc_ray.stages.pipeline import STAGES, run_pipeline
from edc_ray.stages.side_by_side import execution
from edc_ray.stages.units import numerics
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.numerics import (
    check_numerics,
    chosen_precision,
    keep_freed_memory,
    network_numerics,
    placed,
    unit_numerics,
)
from edc_ray.stages.units.plan import UnitOutput, WorkUnit, do_unit
from edc_ray.stages.units.training_step import TrainingStep
from tests.stages.tiny_runs import (
    context_of,
    manifest_of,
    run_until,
    tiny_config,
    tiny_context,
    units_of,
)

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


def test_auto_is_float32_but_on_cuda_what_the_published_programs_ran_with() -> None:
    config = tiny_config()
    assert config.precision == "auto"
    assert [chosen_precision(config, device, None) for device in (CPU, CUDA, MPS)] == [
        "float32",
        "tf32",
        "float32",
    ]
    assert chosen_precision(tiny_config(precision="bfloat16"), CUDA, None) == "bfloat16"


def test_auto_goes_on_with_the_precision_that_a_folder_began_with() -> None:
    began = tiny_config(precision="float32", device="cuda")
    assert chosen_precision(tiny_config(), CUDA, began) == "float32"
    assert chosen_precision(tiny_config(), CPU, tiny_config(precision="tf32", device="cuda")) == "float32"


def test_a_run_in_sixteen_bits_goes_on_without_being_told_again_and_refuses_another() -> None:
    context = tiny_context(precision="bfloat16")
    run_until(context, "squeeze")
    root = context.store.url.rsplit("/", 1)[0]
    assert context_of(tiny_config(root)).config.precision == "bfloat16"
    with pytest.raises(ConfigError, match=r"(?s)squeeze: .*precision='bfloat16'.*precision='float32'"):
        context_of(tiny_config(root, precision="float32"))


def test_a_folder_without_results_has_no_say() -> None:
    context = tiny_context(precision="bfloat16")
    assert context_of(tiny_config(context.store.url.rsplit("/", 1)[0])).config.precision == "float32"


@pytest.mark.parametrize(
    ("fields", "device", "message"),
    [
        ({"precision": "float16"}, MPS, "precision=float16 is for cpu and cuda"),
        ({"precision": "bfloat16"}, MPS, "precision=bfloat16 is for cpu and cuda"),
        ({"compile": "default"}, MPS, "compile=default is for cpu and cuda"),
        ({"compile": "graphs"}, CPU, "captures CUDA graphs"),
    ],
)
def test_what_a_device_cannot_do_is_refused(fields: Any, device: torch.device, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_numerics(tiny_config(**fields), device)


def test_a_gpu_too_old_for_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old GPU")
    for supported in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda emulated, is_it=supported: is_it)
        if supported:
            check_numerics(tiny_config(precision="bfloat16"), CUDA)
            continue
        with pytest.raises(ConfigError, match=r"(?s)needs a GPU that computes in it.*Old GPU.*float16"):
            check_numerics(tiny_config(precision="bfloat16"), CUDA)


def test_without_a_cpp_compiler_compile_is_refused_when_the_run_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context_of(tiny_config(compile="default"))
    monkeypatch.setattr(numerics.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"(?s)needs a C\+\+ compiler.*install g\+\+.*compile=none"):
        context_of(tiny_config(compile="default"))
    context_of(tiny_config())


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def _with_threads(context: StageContext, threads: int) -> RunConfig:
    return with_fields(context.config, {"cluster.threads_per_unit": threads, "deterministic": True})


@pytest.mark.usefixtures("two_threads")
def test_a_unit_has_the_threads_of_the_config_and_the_process_its_own_afterwards(
    finished: StageContext,
) -> None:
    with unit_numerics(_with_threads(finished, 3), CPU):
        assert torch.get_num_threads() == 3
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 2
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.usefixtures("two_threads")
def test_a_failing_unit_leaves_the_process_as_it_was(finished: StageContext) -> None:
    def fail() -> None:
        with unit_numerics(_with_threads(finished, 3), CPU):
            torch.manual_seed(5)
            raise RuntimeError("in the unit")

    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="in the unit"):
        fail()
    assert torch.get_num_threads() == 2
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.usefixtures("two_threads")
def test_units_at_once_share_the_flags_until_the_last_ends_and_count_threads_for_themselves(
    finished: StageContext,
) -> None:
    config, first_is_in, second_ends = _with_threads(finished, 3), Event(), Event()
    state = torch.get_rng_state()

    def second() -> list[object]:
        torch.set_num_threads(1)
        with unit_numerics(config, CPU):
            first_is_in.set()
            second_ends.wait(60)
            seen: list[object] = [torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()]
        return [*seen, torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()]

    with ThreadPoolExecutor(1) as pool:
        with unit_numerics(config, CPU):
            other = pool.submit(second)
            first_is_in.wait(60)
            torch.manual_seed(5)
        assert torch.get_num_threads() == 2
        assert torch.are_deterministic_algorithms_enabled(), "the other unit needs them"
        second_ends.set()
        assert other.result() == [3, True, 1, False]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.usefixtures("two_threads")
def test_every_stage_runs_its_units_with_the_threads_of_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[int]] = {}

    def watched(context: StageContext, unit: WorkUnit) -> UnitOutput:
        seen.setdefault(unit.stage, set()).add(torch.get_num_threads())
        return STAGES[unit.stage].run_unit(context, unit)

    def do_watched(context: StageContext, unit: WorkUnit, stage: object = None) -> object:
        return do_unit(context, unit, replace(STAGES[unit.stage], run_unit=watched))

    monkeypatch.setattr(execution, "do_unit", do_watched)
    run_pipeline(tiny_context(evaluate__seeds=1, evaluate__rows=["condensed"], relabel__epochs=1))
    assert seen == {stage: {1} for stage in STAGES}
    assert torch.get_num_threads() == 2


def test_a_whole_run_neither_reads_nor_changes_the_random_state_of_the_process() -> None:
    hashes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        before = (torch.get_rng_state(), np.random.get_state(), random.getstate())
        context = tiny_context(evaluate__seeds=1, relabel__epochs=2)
        run_pipeline(context)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert all(
            np.array_equal(new, old) for new, old in zip(np.random.get_state(), before[1], strict=True)
        )
        assert random.getstate() == before[2]
        hashes.append([u.fingerprint for u in units_of(context, "evaluate")] + _shards(context))
    assert hashes[0] == hashes[1]


def _shards(context: StageContext) -> list[str]:
    return [shard.sha256 for stage in STAGES for shard in context.manifest(stage).shards]


FAULTS = """
import resource, sys, torch
from edc_ray.stages.units.numerics import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
torch.set_num_threads(1)
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for bits in (18, 20, 22, 23, 24):
    torch.ones(1 << bits)
    before = faults()
    for _ in range(10):
        torch.ones(1 << bits)
print(faults() - before)
"""


def faults(mode: str) -> int:
    """Page faults of taking 64 MB ten times, after smaller blocks."""
    command = [sys.executable, "-c", FAULTS, mode]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator than glibc's")
@pytest.mark.nightly
def test_blocks_that_are_freed_and_taken_again_cause_no_page_faults() -> None:
    assert faults("keep") * 4 < faults("leave")


def test_saying_it_again_changes_nothing() -> None:
    assert keep_freed_memory() == keep_freed_memory()


def _changed(context: StageContext, **fields: str) -> StageContext:
    return replace(context, config=with_fields(context.config, fields))


def test_a_precision_is_the_type_inside_networks_and_on_cuda_their_layout(finished: StageContext) -> None:
    for precision, dtype, layout in (
        ("float32", torch.float32, None),
        ("tf32", torch.float32, None),
        ("bfloat16", torch.bfloat16, torch.channels_last),
        ("float16", torch.float16, torch.channels_last),
    ):
        config = _changed(finished, precision=precision).config
        assert network_numerics(config, CPU).dtype == dtype
        assert network_numerics(config, CPU).memory_format is None
        assert network_numerics(config, CUDA).memory_format == layout


def test_a_compiler_is_there_where_asked_for(finished: StageContext) -> None:
    config = _changed(finished, compile="graphs").config
    assert network_numerics(config, CUDA).compiler is not None
    assert network_numerics(config, CUDA).copies_outputs
    assert network_numerics(config, CUDA, compiled=False).compiler is None
    assert network_numerics(finished.config, CPU).compiler is None


def test_weights_lie_as_the_precision_computes_best(
    finished: StageContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = nn.Conv2d(3, 4, 3)
    assert placed(network, finished.config, CPU).weight.is_contiguous()  # type: ignore[union-attr]
    last = replace(network_numerics(finished.config, CPU), memory_format=torch.channels_last)
    monkeypatch.setattr(numerics, "network_numerics", lambda config, device: last)
    moved = placed(network, finished.config, CPU)
    assert moved.weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[union-attr]


def _trained(context: StageContext, factor: float = 1.0) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Weights after three steps of two batches each, and their gradients before the last."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, fused=True)
    numerics = context.numerics()
    forward = numerics.forward(network)
    step = TrainingStep(
        optimizer,
        lambda images: forward(images).square().mean() * factor,
        context.device,
        numerics.dtype,
    )
    for _ in range(3):
        step((((images,), 1.0) for images in torch.randn(2, 5, 1, 8, 8)), torch.zeros(()))
    states = [value for state in optimizer.state.values() for value in state.values()]
    return network[0].weight.detach(), states  # type: ignore[return-value]


def test_training_in_sixteen_bits_is_nearly_that_of_float32(finished: StageContext) -> None:
    exact, _ = _trained(finished)
    for precision in ("bfloat16", "float16"):
        weights, states = _trained(_changed(finished, precision=precision))
        assert 0 < (weights - exact).abs().max() < 0.02
        assert {each.dtype for each in (weights, *states)} == {torch.float32}


def test_a_step_whose_gradients_overflow_is_left_out(finished: StageContext) -> None:
    torch.manual_seed(0)
    first = nn.Conv2d(1, 3, 3).weight.detach()
    weights, states = _trained(_changed(finished, precision="float16"), factor=1e30)
    assert torch.equal(weights, first)
    assert not any(state.any() for state in states)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_whole_run_in_sixteen_bits_is_made_once_and_says_so(precision: str) -> None:
    context = tiny_context(
        precision=precision, evaluate__seeds=1, evaluate__rows=["condensed"], relabel__epochs=1
    )
    run_until(context, "evaluate")
    assert context.config.precision == precision
    assert len(manifest_of(context, "evaluate").meta["results"]) == 1
    assert all(report.units_done == 0 for report in run_until(context, "evaluate"))


def test_labels_and_scores_see_networks_of_the_runs_precision(
    finished: StageContext, copied: Callable[..., StageContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage in ("init", "recover", "relabel"):
        inside: set[torch.dtype] = set()
        context = _changed(finished, precision="bfloat16")
        context = replace(context, _networks={})
        for name in context.config.squeeze.observers:
            for layer in context.observer(name).modules():
                if isinstance(layer, nn.Conv2d):
                    layer.register_forward_hook(lambda *call: inside.add(call[2].dtype))  # noqa: B023
        STAGES[stage].run_unit(context, units_of(context, stage)[0])
        assert inside == {torch.bfloat16}, stage


@pytest.mark.nightly
def test_a_compiled_run_gives_the_results_of_a_plain_one_up_to_rounding(finished: StageContext) -> None:
    from torch._dynamo.utils import counters  # takes seconds to import

    compiled = _changed(finished, compile="default")
    images = torch.randn(4, 1, 8, 8)
    for name in finished.config.squeeze.observers:
        network = finished.observer(name)
        counters.clear()
        with torch.no_grad():
            torch.testing.assert_close(
                compiled.numerics().forward(network)(images), finished.numerics().forward(network)(images)
            )
        assert counters["stats"]["unique_graphs"] == 1
    exact = _trained(finished)[0]
    counters.clear()
    torch.testing.assert_close(_trained(compiled)[0], exact, rtol=1e-3, atol=1e-4)
    assert counters["stats"]["unique_graphs"] == 1
