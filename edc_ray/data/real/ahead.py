"""Making the next thing in a thread while the caller uses this one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import is_dataclass
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from edc_ray.artifacts.storage.patience import give_up_waiting

Given = TypeVar("Given")
Made = TypeVar("Made")


def one_ahead(
    make: Callable[[Given], Made], given: Iterable[Given], device: torch.device | None = None
) -> Iterator[Made]:
    """The result of `make` for each given thing, in order. At most two results exist at a time.

    One thread makes the next result while the caller works on this one. An exception of `make` is raised here
    when its result is due.

    On CUDA the thread has a stream of its own, so that its copies and kernels run beside the caller's. What
    the caller started before is done when `make` begins, and the caller's stream waits for each result.

    Args:
        make: gives tensors, or tuples or data classes of them, or what has nothing to do with a device.
        given: read in the caller's thread.
        device: of the tensors.
    """
    # A new thread would use all cores for torch's operations, whatever limit this thread has.
    settings = {"initializer": torch.set_num_threads, "initargs": (torch.get_num_threads(),)}
    stream = _StreamBeside(device) if device is not None and device.type == "cuda" else None
    due = (lambda result: result) if stream is None else stream.handed_over
    try:
        with ThreadPoolExecutor(1, **settings) as pool:
            following: Future[Any] | None = None
            try:
                for each in given:
                    task = make if stream is None else stream.begun(make)
                    ready, following = following, pool.submit(task, each)
                    if ready is not None:
                        yield due(ready.result())
                if following is not None:
                    yield due(following.result())
            except KeyboardInterrupt:
                give_up_waiting()
                raise
    finally:
        if stream is not None:
            stream.join()


class _StreamBeside:
    """A stream of a helping thread, beside the one that the caller has now."""

    def __init__(self, device: torch.device) -> None:
        self._callers = torch.cuda.current_stream(device)
        self._own = _stream_beside(self._callers)

    def begun(self, make: Callable[[Given], Made]) -> Callable[[Given], Any]:
        """The task of the thread: `make` on its stream, behind what the caller has started until now."""
        before = self._callers.record_event()

        def task(given: Given) -> Any:
            with torch.cuda.stream(self._own):
                self._own.wait_event(before)
                return make(given), self._own.record_event()

        return task

    def handed_over(self, result: Any) -> Any:
        """What the task made, safe to be used on the caller's stream."""
        made, done = result
        self._callers.wait_event(done)
        for each in tensors_of(made):
            if each.is_cuda:
                # Its memory must not be given away before the caller's stream has read it.
                each.record_stream(self._callers)
        return made

    def join(self) -> None:
        """Let the caller's stream wait for what nobody has fetched: it reads the caller's tensors."""
        self._callers.wait_stream(self._own)


@cache
def _stream_beside(stream: torch.cuda.Stream) -> torch.cuda.Stream:
    # One for each: memory that was freed on a stream is kept for that stream.
    return torch.cuda.Stream(stream.device)


def tensors_of(made: Any) -> Iterator[Tensor]:
    """The tensors in a result: itself, or what lies in tuples, lists and data classes."""
    if isinstance(made, Tensor):
        yield made
    elif isinstance(made, tuple | list):
        for each in made:
            yield from tensors_of(each)
    elif is_dataclass(made):
        yield from tensors_of(list(vars(made).values()))
