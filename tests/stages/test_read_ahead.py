from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from edc_ray.stages.read_ahead import read_ahead


def test_items_come_in_order_and_none_is_read_twice() -> None:
    asked: list[int] = []

    def read(number: int) -> int:
        asked.append(number)
        return number * number

    assert list(read_ahead(read, 5)) == [0, 1, 4, 9, 16]
    assert asked == [0, 1, 2, 3, 4]
    assert list(read_ahead(read, 0)) == []


def test_the_next_item_is_read_while_this_one_is_worked_on_and_no_further() -> None:
    begun = [threading.Event() for _ in range(4)]

    def read(number: int) -> int:
        begun[number].set()
        return number

    items: Iterator[int] = read_ahead(read, 4)
    for number, item in enumerate(items):
        assert item == number
        assert number == 3 or begun[number + 1].wait(5)
        assert number >= 2 or not begun[number + 2].wait(0.05)


def test_an_error_is_raised_where_its_item_is_asked_for() -> None:
    def read(number: int) -> int:
        if number == 1:
            raise RuntimeError("damaged")
        return number

    items = read_ahead(read, 3)
    assert next(items) == 0
    with pytest.raises(RuntimeError, match="damaged"):
        next(items)
