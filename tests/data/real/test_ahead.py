from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edc_ray.artifacts.storage.patience import patiently
from edc_ray.data.real import ahead
from edc_ray.data.real.ahead import one_ahead, tensors_of
from edc_ray.errors import StorageError


def test_things_come_in_order_whatever_their_number() -> None:
    for count in range(4):
        assert list(one_ahead(lambda number: number * number, range(count))) == [n * n for n in range(count)]


def test_the_next_is_made_while_one_is_used_and_none_further() -> None:
    made: list[int] = []
    second = threading.Event()

    def make(number: int) -> int:
        made.append(number)
        if number == 1:
            second.set()
        return number

    things: Iterator[int] = iter(one_ahead(make, range(9)))
    assert next(things) == 0
    assert second.wait(5)
    assert made == [0, 1]


def test_what_making_raises_is_raised_in_its_turn() -> None:
    things = one_ahead(lambda number: 1 // number, [1, 0])
    assert next(things) == 1
    with pytest.raises(ZeroDivisionError):
        next(things)


def test_the_thread_has_as_many_threads_for_torch_as_its_caller() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert list(one_ahead(lambda _: torch.get_num_threads(), range(2))) == [3, 3]
    finally:
        torch.set_num_threads(before)


@dataclass
class Views:
    pixels: Tensor
    places: np.ndarray


def test_tensors_are_found_wherever_a_result_holds_them() -> None:
    one, other, third = torch.zeros(1), torch.zeros(2), torch.zeros(3)
    found = tensors_of(((one, [2, 3]), Views(other, np.zeros(1)), {"no": 1}, third))
    assert [len(each) for each in found] == [1, 2, 3]
    assert list(tensors_of(one)) == [one]


class FakeStream:
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log, self.device = name, log, torch.device("cuda:0")

    def record_event(self) -> str:
        self.log.append(f"{self.name} records")
        return f"event of {self.name}"

    def wait_event(self, event: str) -> None:
        self.log.append(f"{self.name} waits for {event}")

    def wait_stream(self, other: FakeStream) -> None:
        self.log.append(f"{self.name} waits for {other.name}")


def test_on_cuda_both_streams_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    callers, own = FakeStream("caller", log), FakeStream("helper", log)

    @contextmanager
    def current(stream: FakeStream) -> Iterator[None]:
        yield

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: callers)
    monkeypatch.setattr(torch.cuda, "stream", current)
    monkeypatch.setattr(ahead, "_stream_beside", {callers: own}.__getitem__)

    def make(number: int) -> int:
        log.append(f"makes {number}")
        return number

    assert list(one_ahead(make, [1], torch.device("cuda"))) == [1]
    assert log == [
        "caller records", "helper waits for event of caller", "makes 1", "helper records",
        "caller waits for event of helper", "caller waits for helper",
    ]  # fmt: skip


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("on_a_stream_of_its_own", [False, True])
def test_on_cuda_what_is_made_beside_a_stream_that_is_behind_is_whole(on_a_stream_of_its_own: bool) -> None:
    cuda = torch.device("cuda")
    source = torch.zeros(1 << 20, device=cuda)
    stream = torch.cuda.Stream() if on_a_stream_of_its_own else torch.cuda.current_stream()
    stream.wait_stream(torch.cuda.current_stream())

    def make(number: int) -> tuple[Tensor, Any]:
        torch.cuda._sleep(10**7)
        return (source + number, [number])

    with torch.cuda.stream(stream):
        torch.cuda._sleep(10**8)
        source += 1  # before the first is made
        found = []
        for made, _ in one_ahead(make, range(6), cuda):
            torch.cuda._sleep(10**7)
            found.append(made.sum())
            del made  # its memory is free for the thread, but not before it was read
        sums = [float(each) for each in found]
    assert sums == [(1 + number) * (1 << 20) for number in range(6)]


def test_an_interrupt_waits_for_no_storage() -> None:
    waits = threading.Event()

    def make(_: int) -> None:
        def fail() -> None:
            waits.set()
            raise StorageError("cannot read", found="OSError: it has gone")

        patiently(60, fail)

    def given() -> Iterator[int]:
        yield 0
        assert waits.wait(60)
        raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(one_ahead(make, given()))
    assert time.monotonic() - begun < 10
