from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from threading import Barrier
from types import SimpleNamespace

import pytest
import torch

from edc_ray.core import captured_step
from edc_ray.core.captured_step import CapturedForward, CapturedStep, memory_pool, stream_for
from edc_ray.core.device_errors import is_out_of_memory
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


@dataclass(frozen=True)
class FakeStream:
    """Stands for a stream of CUDA."""

    device: torch.device
    cuda_stream: int = 0

    def wait_stream(self, other: FakeStream) -> None:
        pass


@pytest.fixture
def recorded_on(monkeypatch: pytest.MonkeyPatch) -> list[FakeStream]:
    """Makes recording work without a device: the stream of each recording."""
    streams, numbers = list[FakeStream](), itertools.count(1)

    def graph(graph: object, *, stream: FakeStream, **_: object) -> nullcontext[None]:
        streams.append(stream)
        return nullcontext()

    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "Stream", lambda device, priority: FakeStream(device, next(numbers)))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: FakeStream(cuda))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: None))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(captured_step, "_STREAMS", {})
    return streams


def fails_in_third_call(error: Exception) -> CapturedStep:
    calls = itertools.count(1)

    def step() -> None:
        if next(calls) == 3:
            raise error

    captured = CapturedStep(step, torch.device("cuda"))
    captured()
    captured()
    return captured


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("CUDA error: unspecified launch failure")],
    ids=str,
)
def test_what_ends_a_training_is_no_reason_to_go_on_without_recording(
    recorded_on: list[FakeStream], error: Exception
) -> None:
    with pytest.raises(RuntimeError, match=str(error)):
        fails_in_third_call(error)()


def test_a_step_that_cannot_be_recorded_runs_as_it_is(recorded_on: list[FakeStream]) -> None:
    captured = fails_in_third_call(RuntimeError("operation not permitted when stream is capturing"))
    with pytest.warns(UserWarning, match="runs as it is: operation not permitted"):
        captured()
    captured()


def test_steps_of_one_stream_are_recorded_on_one_other_and_steps_of_another_on_theirs(
    recorded_on: list[FakeStream], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = torch.device("cuda")
    for number in (0, 0, 7):
        monkeypatch.setattr(torch.cuda, "current_stream", lambda _, at=number: FakeStream(device, at))
        captured = CapturedStep(lambda: None, device)
        for _ in range(3):
            captured()
    first, again, other = recorded_on
    assert first is again
    assert other != first


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
    own = torch.cuda.Stream(device)
    torch.cuda.synchronize(device)
    with torch.cuda.stream(own):
        step()
        step()
        with pytest.warns(UserWarning, match="the step is not captured"):
            step()
        assert torch.cuda.current_stream(device) == own
        step()
    assert total.item() == 4


@pytest.mark.gpu
def test_threads_record_one_at_a_time_and_replay_at_the_same_time_with_the_bits_of_one_alone() -> None:
    device = torch.device("cuda")
    together = Barrier(4)

    def trained(number: int, *, alone: bool) -> torch.Tensor:
        with torch.cuda.stream(stream_for(device, ("test", number))):
            draw = torch.Generator().manual_seed(number)
            value, weight = (torch.randn(512, 512, generator=draw).to(device) for _ in range(2))
            weight.requires_grad_()

            def work() -> None:
                loss = (value @ weight).tanh().square().mean()
                (gradient,) = torch.autograd.grad(loss, weight)
                value.add_(gradient @ value)

            step = CapturedStep(work, device, memory_pool(device))
            for _ in range(200):
                if not alone:
                    together.wait(60)
                step()
            assert step.graph is not None
            return value.cpu()

    expected = [trained(number, alone=True) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(partial(trained, alone=False), range(4)))
    assert all(map(torch.equal, found, expected))


@pytest.mark.gpu
def test_a_full_memory_is_told_and_not_taken_for_a_step_that_cannot_be_recorded() -> None:
    device = torch.device("cuda")
    calls, huge = [0], torch.cuda.mem_get_info(device)[1]

    def step() -> None:
        calls[0] += 1
        if calls[0] > 2:
            torch.empty(huge, dtype=torch.uint8, device=device)

    captured = CapturedStep(step, device)
    captured()
    captured()
    with pytest.raises(RuntimeError) as caught:
        captured()
    assert is_out_of_memory(caught.value)
    torch.cuda.synchronize()


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
