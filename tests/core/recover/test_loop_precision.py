"""The loop with networks of 16 bits or behind a compiler, and what it asks of a device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from edc_ray.core.layers.network_numerics import NetworkNumerics
from edc_ray.core.recover import loop as recover_loop
from edc_ray.core.recover.finite_watch import Iteration
from edc_ray.core.recover.state import IterationReport, LoopState, Observer
from edc_ray.core.seeding import Draws, draws
from edc_ray.errors import NumericalError
from tests.core.tiny_observers import SETTINGS, Bench, changed, make_observer, start

LONG = changed(SETTINGS, iterations=9, drop_rate=0.3, flatness_weight=0.5)


pytestmark = pytest.mark.usefixtures("one_thread")


def _bench(numerics: NetworkNumerics) -> Bench:
    plain = [make_observer("a", 1), make_observer("b", 2)]
    return Bench([Observer(one.name, one.network, one.taps, numerics) for one in plain])


@pytest.fixture(scope="module")
def expected() -> LoopState:
    return Bench().run(start(), LONG)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_networks_of_sixteen_bits_recover_nearly_the_same_images(
    expected: LoopState, dtype: torch.dtype
) -> None:
    found = _bench(NetworkNumerics(dtype)).run(start(), LONG)
    assert found.images.dtype == found.exp_avg.dtype == torch.float32
    moved = (expected.images - start().images).abs().mean()
    assert 0 < (found.images - expected.images).abs().mean() < 0.2 * moved


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_stopping_and_going_on_gives_the_bits_of_one_go_in_sixteen_bits(dtype: torch.dtype) -> None:
    bench = _bench(NetworkNumerics(dtype))
    whole = bench.run(start(), LONG)
    half = bench.run(start(), LONG, until=5)  # the other observer continues
    again = bench.run(half, LONG)
    assert torch.equal(again.images, whole.images)
    assert torch.equal(bench.run(half, LONG).images, whole.images)  # going on leaves a state as it was
    scales = whole.gradient_scales
    assert scales.keys() == ({"a", "b"} if dtype == torch.float16 else set())
    assert all(torch.equal(again.gradient_scales[name], scale) for name, scale in scales.items())


def test_compiled_observers_give_the_same_images_up_to_rounding(expected: LoopState) -> None:
    found = _bench(NetworkNumerics(compiler=lambda module: module)).run(start(), LONG)
    assert (found.images - expected.images).abs().mean() < 1e-4


def test_an_overflow_of_the_scaled_gradient_is_no_error_and_a_real_one_is() -> None:
    bench = _bench(NetworkNumerics(torch.float16))
    loud = changed(SETTINGS, iterations=6, matching_weight=3.0)
    assert torch.isfinite(bench.run(start(), loud).images).all()
    with pytest.raises(NumericalError, match="iteration 0, observer 'a'"):
        bench.run(start(), changed(SETTINGS, matching_weight=float("inf")))


_WAITING = ("_local_scalar_dense", "nonzero", "_unique", "is_nonzero", "equal", "masked_select", "item")
"""Operations whose result the host must know before it can continue."""
_FROM_THE_HOST = ("lift_fresh",)
"""A tensor of Python's numbers: on its way to a device the host waits for it."""


class _Watched(TorchDispatchMode):
    """Notes operations that wait, by iteration."""

    def __init__(self) -> None:
        super().__init__()
        self.iteration = -1
        self.found: list[tuple[int, str]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name.startswith(_WAITING + _FROM_THE_HOST):
            self.found.append((self.iteration, name))
        return func(*args, **(kwargs or {}))

    def draws(self, iteration: int) -> Draws:
        self.iteration = iteration
        return draws(0, iteration)


class _Blind:
    """Replaces the watch, which on a CPU looks at once."""

    def __init__(self, images: torch.Tensor) -> None: ...
    def note(self, done: Iteration) -> None: ...
    def check(self) -> None: ...


def _fixed_view(_: Draws, iteration: int, size: tuple[int, int]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The views' parameters are drawn on the CPU in any case."""
    return lambda images: images.roll(iteration, -1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_no_iteration_waits_for_the_device(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recover_loop, "FiniteWatch", _Blind)
    settings = changed(LONG, iterations=6, tv_l2_weight=0.1, l2_weight=0.1, drop_rate=0.9)
    reports: list[IterationReport] = []
    with _Watched() as watched:
        _bench(NetworkNumerics(dtype)).run(
            start(), settings, draws=watched.draws, augment=_fixed_view, on_iteration=reports.append
        )
        inside = [found for found in watched.found if 0 < found[0] < 6]
        read = [report.loss for report in reports]
    assert len(read) == 6
    assert inside == [], "iteration 0 makes the weights of tiles, once for each size"


def test_the_watcher_of_this_test_sees_who_waits() -> None:
    with _Watched() as watched:
        partial(torch.ones(2).sum().item)()
        torch.ones(2).new_tensor([1.0, 2.0])
    assert [name for _, name in watched.found] == ["_local_scalar_dense", "lift_fresh"]
