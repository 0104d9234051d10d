"""Making the next thing in a thread while this one is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Given = TypeVar("Given")
Made = TypeVar("Made")


def one_ahead(make: Callable[[Given], Made], given: Iterable[Given]) -> Iterator[Made]:
    """What `make` makes of each given thing, in order; at most two made things exist at a time.

    The next one is made by one thread while the caller works on the last. What `make` raises is raised
    here, in its turn.
    """
    # A new thread would take all cores for torch's operations, whatever this one was told to take.
    settings = {"initializer": torch.set_num_threads, "initargs": (torch.get_num_threads(),)}
    with ThreadPoolExecutor(1, **settings) as pool:
        following: Future[Made] | None = None
        for each in given:
            ready, following = following, pool.submit(make, each)
            if ready is not None:
                yield ready.result()
        if following is not None:
            yield following.result()
