"""Which errors leave a process without a device, and which say that memory was too little."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch

_TYPES = ("AcceleratorError",)
_WORDS = (
    "cuda error",
    "hip error",
    "triton error [cuda]",
    "device-side assert",
    "cublas_status_execution_failed",
    "cublas_status_internal_error",
    "cudnn_status_execution_failed",
    "cudnn_status_internal_error",
)
_HARMLESS = (
    # of a capture that ends, and of a call that a device refuses
    "captur",
    "invalid argument",
    "invalid configuration argument",
    "invalid device function",
    "no kernel image is available",
    "too many resources requested",
)
_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|bad_alloc"
    r"|(CUBLAS|CUDNN|CUFFT|CUSOLVER)_\w*ALLOC\w*_FAILED"
    r"|could not (create|execute) a primitive$"  # oneDNN says no more than this
)


def is_device_error(error: BaseException) -> bool:
    """Whether an error, or one that caused it, ends all work of this process on its device.

    After such an error every later call fails, too: a lost GPU, an access to memory that is not there. A full
    memory is none, nor is a call that the device refuses: the next call works.
    """
    return any(_kills(each) for each in _with_causes(error))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that caused it, says that memory was too little, of a device or a CPU."""
    return any(map(_lacks_memory, _with_causes(error)))


def _lacks_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None


def _kills(error: BaseException) -> bool:
    text = str(error).lower()
    if _lacks_memory(error) or any(word in text for word in _HARMLESS):
        return False
    return type(error).__name__ in _TYPES or (
        isinstance(error, RuntimeError) and any(word in text for word in _WORDS)
    )


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
