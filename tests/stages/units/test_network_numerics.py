"""How the stages compute networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from edc_ray.config.load import with_fields
from edc_ray.stages.units import network_numerics as module
from edc_ray.stages.units.context import StageContext
from edc_ray.stages.units.network_numerics import TrainingSteps, forward_of, network_numerics, placed
from tests.stages.tiny_runs import manifest_of, run_until, tiny_context, units_of

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


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
    monkeypatch.setattr(module, "network_numerics", lambda config, device: last)
    moved = placed(network, finished.config, CPU)
    assert moved.weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[union-attr]


def _trained(context: StageContext, factor: float = 1.0) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Weights after three steps of two batches each, and their gradients before the last."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, fused=True)
    steps = TrainingSteps(network, context)
    for _ in range(3):
        optimizer.zero_grad()
        for images in torch.randn(2, 5, 1, 8, 8):
            steps.backward(steps.forward(images).square().mean() * factor)
        steps.step(optimizer)
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
    from edc_ray.stages.pipeline import STAGES

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
                forward_of(network, compiled)(images), forward_of(network, finished)(images)
            )
        assert counters["stats"]["unique_graphs"] == 1
    exact = _trained(finished)[0]
    counters.clear()
    torch.testing.assert_close(_trained(compiled)[0], exact, rtol=1e-3, atol=1e-4)
    assert counters["stats"]["unique_graphs"] == 1
