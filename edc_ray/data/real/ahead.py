"""Making the next thing in a thread while the caller uses this one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Given = TypeVar("Given")
Made = TypeVar("Made")


def one_ahead(make: Callable[[Given], Made], given: Iterable[Given]) -> Iterator[Made]:
    """The result of `make` for each given thing, in order. At most two results exist at a time.

    One thread makes the next result while the caller works on this one. An exception of `make` is raised here
    when its result is due.
    """
    # A new thread would use all cores for torch's operations, whatever limit this thread has.
    settings = {"initializer": torch.set_num_threads, "initargs": (torch.get_num_threads(),)}
    with ThreadPoolExecutor(1, **settings) as pool:
        following: Future[Made] | None = None
        for each in given:
            ready, following = following, pool.submit(make, each)
            if ready is not None:
                yield ready.result()
        if following is not None:
            yield following.result()
