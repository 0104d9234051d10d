"""Captured steps of a training, proven on a CPU: one trace of a step serves all batches of its size."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from edc_ray.config.stages import EvaluateConfig
from edc_ray.core.captured_step import CapturedStep
from edc_ray.core.students.ema import EmaParameters
from edc_ray.stages.units import training_step
from edc_ray.stages.units.context import Seat
from edc_ray.stages.units.training import make_optimizer
from edc_ray.stages.units.training_step import (
    Captures,
    TrainingStep,
    begin_training,
    captures_of,
    draws_numbers,
)
from tests.core.traced import Traced

CPU = torch.device("cpu")
STEPS = 12


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
    ).train()


def _trained(
    optimizer_name: Literal["sgd", "adamw"], captures: Captures | None, device: torch.device = CPU
) -> tuple[list[Tensor], list[float]]:
    """All that training changes, and the losses. Rates change, and so does the size of some batches."""
    network = _network().to(device)
    section = EvaluateConfig(students=("convnet_d1",), optimizer=optimizer_name, weight_decay=0.1)
    optimizer = make_optimizer(network, section, captured=captures is not None)
    ema = EmaParameters(network, 0.9)
    step = TrainingStep(
        optimizer, lambda images, labels: F.cross_entropy(network(images), labels), device, torch.float32,
        after=ema.update, captures=captures,
    )  # fmt: skip
    draw, losses = torch.Generator().manual_seed(1), []
    for number in range(STEPS):
        for group in optimizer.param_groups:
            rate = 0.1 / (1 + number)
            group["lr"] = group["lr"].fill_(rate) if isinstance(group["lr"], Tensor) else rate
        count = 5 if number % 3 == 2 else 8
        images = torch.randn(count, 1, 6, 6, generator=draw)
        labels = torch.randint(0, 3, (count,), generator=draw)
        total = torch.zeros((), device=device)
        step([((images.to(device), labels.to(device)), 1.0)], total)
        losses.append(float(total))
    return [*network.state_dict().values(), *ema.average.values()], losses


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_one_trace_for_each_size_of_batch_serves_all_steps(optimizer: Literal["sgd", "adamw"]) -> None:
    traces = list[Traced]()

    def traced(step: Callable[[], None], *_: object) -> Traced:
        traces.append(Traced(step))
        return traces[-1]

    plain, replayed = _trained(optimizer, None), _trained(optimizer, traced)
    assert len(traces) == 2
    assert all(trace.graph is not None for trace in traces)
    for one, other in zip(plain[0], replayed[0], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert plain[1] == pytest.approx(replayed[1], rel=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_captured_steps_are_the_plain_ones_on_cuda(optimizer: Literal["sgd", "adamw"]) -> None:
    cuda = torch.device("cuda")
    plain, captured = _trained(optimizer, None, cuda), _trained(optimizer, CapturedStep, cuda)
    for one, other in zip(plain[0], captured[0], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert plain[1] == pytest.approx(captured[1], rel=1e-3)


def test_the_tensors_of_a_training_stay_where_they_are() -> None:
    network, total = _network(), torch.zeros(())
    section = EvaluateConfig(students=("convnet_d1",))
    optimizer = make_optimizer(network, section, captured=True)
    step = TrainingStep(
        optimizer, lambda images: network(images).square().mean(), CPU, torch.float32,
        captures=lambda step, *_: step,
    )  # fmt: skip

    def places() -> list[int]:
        states = [value for state in optimizer.state.values() for value in state.values()]
        return [each.data_ptr() for each in (*network.state_dict().values(), *states)]

    step([((torch.randn(4, 1, 6, 6),), 1.0)], total)
    before = places()
    step([((torch.randn(4, 1, 6, 6),), 1.0)], total)
    assert places() == before


def _context(**facts: Any) -> Any:
    there = {"device": "cuda", "compile": "auto", "dtype": torch.bfloat16, "group": 1} | facts
    return SimpleNamespace(
        device=torch.device(there["device"]),
        config=SimpleNamespace(compile=there["compile"]),
        numerics=lambda: SimpleNamespace(dtype=there["dtype"]),
        group=SimpleNamespace(size=there["group"]),
    )


def test_steps_are_captured_on_cuda_alone_and_by_default() -> None:
    assert captures_of(_context(), "a training") is not None
    assert captures_of(_context(device="cpu"), "a training") is None
    assert captures_of(_context(compile="none"), "a training") is None


@pytest.mark.parametrize(
    ("facts", "why_not", "reason"),
    [
        ({"dtype": torch.float16}, None, "precision=float16"),
        ({"group": 2}, None, "several processes"),
        ({}, "evaluate.accumulation", "evaluate.accumulation"),
    ],
)
def test_a_training_that_cannot_be_captured_is_told(
    facts: dict[str, Any], why_not: str | None, reason: str
) -> None:
    with pytest.warns(UserWarning, match=f"a training: steps are not captured, because of {reason}"):
        assert captures_of(_context(**facts), "a training", why_not) is None


def _unfit_for_a_cpu() -> nn.Module:
    class OnlyThere(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError("no kernel for this device")

    return OnlyThere()


@pytest.mark.parametrize(
    ("extra", "draws"),
    [
        (nn.Identity, False),
        (lambda: nn.BatchNorm1d(64), False),
        (lambda: nn.Dropout(0.1), True),
        (lambda: nn.Dropout(0.0), False),
        (lambda: StochasticDepth(0.2, "row"), True),
        (_unfit_for_a_cpu, True),
    ],
)
def test_a_network_that_draws_while_it_trains_is_found_and_left_as_it_was(
    extra: Callable[[], nn.Module], draws: bool
) -> None:
    network = _network().eval()
    network.insert(4, extra())  # type: ignore[operator]
    before = [value.clone() for value in network.state_dict().values()]
    state = torch.get_rng_state()
    assert draws_numbers(network, (1, 6, 6)) == draws
    assert torch.equal(torch.get_rng_state(), state)
    assert not network.training
    assert all(map(torch.equal, before, network.state_dict().values()))


class _Noted(Seat):
    alone, went, steps = False, 0, 0

    def go_on_alone(self) -> None:
        self.went += 1

    def step_done(self) -> None:
        self.steps += 1


@pytest.mark.parametrize(("dropout", "went"), [(0.0, 0), (0.5, 1)])
def test_only_a_training_that_draws_goes_on_alone_and_each_has_its_seed(dropout: float, went: int) -> None:
    train = SimpleNamespace(channels=1, image_size=6)
    seat = _Noted()
    context: Any = SimpleNamespace(seat=seat, data=SimpleNamespace(train=train))
    network = nn.Sequential(_network(), nn.Dropout(dropout))
    with torch.random.fork_rng():
        begin_training(context, network, 5)
        found = torch.rand(3)
        torch.manual_seed(5)
        assert torch.equal(found, torch.rand(3))
    assert seat.went == went


def test_a_training_that_is_alone_is_not_tried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_step, "draws_numbers", lambda *_: pytest.fail("it costs a forward"))
    train = SimpleNamespace(channels=1, image_size=6)
    context: Any = SimpleNamespace(seat=Seat(), data=SimpleNamespace(train=train))
    with torch.random.fork_rng():
        begin_training(context, _network(), 5)


@pytest.mark.parametrize("captures", [None, lambda step, *_: step])
def test_a_seat_hears_of_each_step_and_a_recording_goes_with_its_training(captures: Captures | None) -> None:
    network, seat = _network(), _Noted()
    section = EvaluateConfig(students=("convnet_d1",))
    optimizer = make_optimizer(network, section, captured=captures is not None)
    step = TrainingStep(
        optimizer, lambda images: network(images).square().mean(), CPU, torch.float32,
        captures=captures, seat=seat,
    )  # fmt: skip
    for _ in range(3):
        step([((torch.randn(4, 1, 6, 6),), 1.0)], torch.zeros(()))
    assert seat.steps == 3
    gone = weakref.ref(step)
    gc.disable()
    try:
        del step
        assert gone() is None, "another thread would collect it, perhaps while it records"
    finally:
        gc.enable()
