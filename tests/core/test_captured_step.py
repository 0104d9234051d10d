from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from edc_ray.core.captured_step import CapturedForward, CapturedStep, memory_pool
from tests.core.traced import Traced

CPU = torch.device("cpu")


def keep(tensor: torch.Tensor) -> None:
    """Of a step nothing is wanted but its effect."""


def test_on_a_cpu_a_step_is_called_as_it_is() -> None:
    total = torch.zeros(1)
    step = CapturedStep(lambda: keep(total.add_(1)), CPU, memory_pool(CPU))
    for _ in range(5):
        step()
    assert total.item() == 5
    assert step.graph is None


@pytest.mark.gpu
def test_on_cuda_each_call_has_its_effect_once() -> None:
    device = torch.device("cuda")
    total, amount = torch.zeros(1, device=device), torch.ones(1, device=device)
    step = CapturedStep(lambda: keep(total.add_(amount)), device, memory_pool(device))
    for count in range(1, 7):
        amount.fill_(count)
        step()
    assert step.graph is not None
    assert total.item() == 21


@pytest.mark.gpu
def test_what_waits_for_the_device_runs_as_it_is_after_one_warning() -> None:
    device = torch.device("cuda")
    total = torch.zeros(1, device=device)

    def waits() -> None:
        total.add_(1)
        total.item()

    step = CapturedStep(waits, device)
    step()
    step()
    with pytest.warns(UserWarning, match="the step is not captured"):
        step()
    step()
    assert total.item() == 4


def test_one_trace_of_a_forward_serves_all_inputs_of_its_size() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.ReLU()).eval()
    traces = list[Traced]()

    def traced(step: Callable[[], None], *_: object) -> Traced:
        traces.append(Traced(step))
        return traces[-1]

    captured = CapturedForward(network, CPU, traced)
    shown = [torch.randn(2 if number % 3 else 5, 2, 6, 6) for number in range(12)]
    found = [captured(images) for images in shown]
    assert len(traces) == 2
    assert all(trace.graph is not None for trace in traces)
    for images, result in zip(shown, found, strict=True):
        torch.testing.assert_close(result, network(images).detach())


@pytest.mark.gpu
def test_a_captured_forward_gives_results_of_their_own() -> None:
    device = torch.device("cuda")
    captured = CapturedForward(lambda images: images * 2, device)
    shown = [torch.full((2, 3), float(number), device=device) for number in range(6)]
    found = [captured(images) for images in shown]
    assert [float(result.sum()) for result in found] == [12.0 * number for number in range(6)]
