from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from edc_ray.data.real.ahead import one_ahead


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
