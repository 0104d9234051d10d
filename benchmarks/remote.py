"""A variant in a separate process, because it changes settings of the whole process.

The stages tell the allocator to keep freed memory. In the benchmark's own process that would help the other
variants, too.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import torch
from harness import peak_megabytes

Runs = Mapping[str, Callable[[], object]]


class Remote:
    """The functions that `make(options)` gives, called in another process.

    Args:
        make: a function of a module.
        options: with `threads` and `device`.
    """

    def __init__(self, make: Callable[[argparse.Namespace], Runs], options: argparse.Namespace) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(make, options, there), daemon=True)
        self._process.start()
        self._here.recv()

    def __enter__(self) -> Remote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._here.close()
        self._process.join(20)

    def run(self, name: str) -> None:
        """Call a function and wait for its end."""
        self._ask("run", name)

    def peak_megabytes(self, name: str) -> float | None:
        """See `harness.peak_megabytes`."""
        return self._ask("peak", name)

    def _ask(self, what: str, name: str) -> Any:
        self._here.send((what, name))
        return self._here.recv()


def _serve(make: Callable[[argparse.Namespace], Runs], options: argparse.Namespace, pipe: Connection) -> None:
    torch.set_num_threads(options.threads)
    runs = make(options)
    pipe.send("ready")
    while True:
        try:
            what, name = pipe.recv()
        except EOFError:
            return
        if what == "run":
            runs[name]()
            if options.device.type == "cuda":
                torch.cuda.synchronize(options.device)
            pipe.send(None)
        else:
            pipe.send(peak_megabytes(runs[name], options.device))
