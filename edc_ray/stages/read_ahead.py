"""The next item is read while the present one is worked on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def read_ahead(read: Callable[[int], Item], count: int) -> Iterator[Item]:
    """read(0), read(1), ... read(count - 1), each begun in a thread when the one before it is given out.

    One is read at a time, in order, so `read` need not stand two threads; two items are held at most. What it
    raises is raised where its item is asked for.

    Args:
        read: without arithmetic whose bits depend on the number of threads, which torch sets for each thread.
        count: of items.
    """
    with ThreadPoolExecutor(1, "read-ahead") as reader:
        coming = reader.submit(read, 0) if count else None
        for number in range(count):
            assert coming is not None
            item = coming.result()
            coming = reader.submit(read, number + 1) if number + 1 < count else None
            yield item
            del item
