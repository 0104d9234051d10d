from __future__ import annotations

import pytest
import torch

from edc_ray.core.captured_step import CapturedStep, memory_pool

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
