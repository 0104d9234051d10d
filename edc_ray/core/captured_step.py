"""What is recorded once as a CUDA graph and replayed: the host starts one graph, not many kernels."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import RLock
from typing import Any

import torch
from torch import Tensor

from edc_ray.core.device_errors import is_device_error, is_out_of_memory

# Calls before the recording: in the first ones libraries choose their algorithms and take their memory.
_WARM_CALLS = 2
RECORDING = RLock()
"""Held while a step is recorded and in the calls before it. A device records for one thread at a time, and
memory is given back to it in between."""
_STREAMS: dict[tuple[torch.device, Hashable], torch.cuda.Stream] = {}


def stream_for(device: torch.device, use: Hashable) -> torch.cuda.Stream:
    """The CUDA stream for one use, made once in a process.

    torch has 32 streams of each priority and hands them out in turn, again and again. So a stream that is
    made for each call would soon be that of another thread. Nothing else here takes streams of this priority.
    """
    with RECORDING:
        if (device, use) not in _STREAMS:
            _STREAMS[device, use] = torch.cuda.Stream(device, priority=-1)
        return _STREAMS[device, use]


class CapturedStep:
    """Calls a function, records one call, and replays the recording from then on. On a CPU it only calls.

    The function has no arguments and no result. It reads and writes tensors that stay where they are and keep
    their sizes, and it does not wait for the device. If it cannot be recorded, one warning says why, and it
    is called without recording. Steps that never run at the same time may share a `pool` (`memory_pool`).
    """

    def __init__(self, step: Callable[[], None], device: torch.device, pool: Any = None) -> None:
        self._step, self._device, self._pool = step, device, pool
        self._calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None  # set once the step is recorded
        self._records = device.type == "cuda"

    def __call__(self) -> None:
        if self.graph is None and self._records:
            with RECORDING:
                self._calls += 1
                if self._calls <= _WARM_CALLS:
                    self._call_beside()
                    return
                self._record()
        if self.graph is None:
            self._step()
        else:
            self.graph.replay()

    def _call_beside(self) -> None:
        """A function that is to be recorded must not run on the default stream before."""
        current, beside = self._streams()
        beside.wait_stream(current)
        with torch.cuda.stream(beside):
            self._step()
        current.wait_stream(beside)

    def _streams(self) -> tuple[torch.cuda.Stream, torch.cuda.Stream]:
        """This thread's stream, and the one on which its steps are recorded.

        Each stream has another one for that: a recorded product of matrices uses the memory of the stream on
        which it was recorded, and recordings of several threads run at the same time.
        """
        current = torch.cuda.current_stream(self._device)
        return current, stream_for(current.device, ("recording", current.cuda_stream))

    def _record(self) -> None:
        graph, (current, beside) = torch.cuda.CUDAGraph(), self._streams()
        # Other threads of the process may work on their own streams at the same time.
        options: dict[str, Any] = {"stream": beside, "capture_error_mode": "thread_local"}
        try:
            # torch does not always go back to this thread's stream after a recording that fails.
            with torch.cuda.stream(current), torch.cuda.graph(graph, pool=self._pool, **options):
                self._step()
        except Exception as error:  # of any library that the step calls
            if is_device_error(error) or is_out_of_memory(error):
                raise
            self._records = False
            torch.cuda.synchronize(self._device)
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(f"the step is not captured, but runs as it is: {reason}", stacklevel=3)
            return
        self.graph = graph


@dataclass
class _OfOneSize:
    """What a captured forward reads and writes for inputs of one size; it stays where it is."""

    input: Tensor
    run: Callable[[], None] = lambda: None
    output: Tensor | None = None


class CapturedForward:
    """A function of one tensor without gradients, captured for each size of its input.

    Args:
        forward: what it computes.
        device: where.
        captures: makes of a step the function that is called instead of it.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        device: torch.device,
        captures: Callable[[Callable[[], None], torch.device, Any], Callable[[], None]] = CapturedStep,
    ) -> None:
        self._forward, self._device, self._captures = forward, device, captures
        self._pool = memory_pool(device)
        self._sizes: dict[tuple[torch.Size, torch.dtype], _OfOneSize] = {}

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """The result, in memory of its own."""
        key = images.shape, images.dtype
        if key not in self._sizes:
            self._sizes[key] = self._begun(images)
        of_size = self._sizes[key]
        try:
            of_size.input.copy_(images)
            of_size.run()
            assert of_size.output is not None
            return of_size.output.clone()
        except Exception:
            del self._sizes[key]  # after too little memory it must not keep what it has of it
            raise

    def _begun(self, images: Tensor) -> _OfOneSize:
        of_size = _OfOneSize(torch.empty_like(images))

        def step() -> None:
            found = self._forward(of_size.input)
            if of_size.output is None:
                of_size.output = found.clone()
            else:
                of_size.output.copy_(found)

        of_size.run = self._captures(step, self._device, self._pool)
        return of_size


def memory_pool(device: torch.device) -> Any:
    """A pool for steps that take turns; None on a CPU."""
    return torch.cuda.graph_pool_handle() if device.type == "cuda" else None
