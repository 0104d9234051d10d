"""Errors as torch and its libraries word them."""

from __future__ import annotations

import pytest
import torch

from edc_ray.core.device_errors import is_device_error, is_out_of_memory
from edc_ray.errors import ResourceError


class AcceleratorError(RuntimeError):
    """Stands for torch's, which needs a device to be raised."""


DEAD = [
    RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be"),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("HIP error: the operation cannot be performed in the present state"),
    RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
    AcceleratorError("the device is gone"),
]
ALIVE = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. CUDA error: none"),
    AcceleratorError("CUDA error: out of memory"),
    RuntimeError("CUDA error: operation not permitted when stream is capturing"),
    RuntimeError("CUDA error: operation failed due to a previous error during capture"),
    AcceleratorError("CUDA error: invalid configuration argument"),
    RuntimeError("CUDA error: no kernel image is available for execution on the device"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    ValueError("a text that quotes a CUDA error"),
    RuntimeError("NCCL error: unhandled system error"),
]


@pytest.mark.parametrize("error", DEAD, ids=str)
def test_an_error_that_leaves_no_device_is_known(error: Exception) -> None:
    assert is_device_error(error)
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("error", ALIVE, ids=str)
def test_an_error_after_which_the_device_works_is_none(error: Exception) -> None:
    assert not is_device_error(error)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        AcceleratorError("CUDA error: out of memory"),
        RuntimeError("HIP out of memory."),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 MB)"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you "
            "tried to allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)"
        ),
        RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("could not create a primitive"),
        RuntimeError("could not execute a primitive"),
    ],
    ids=str,
)
def test_too_little_memory_is_known_by_its_type_or_message(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_device_error(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("out of resource: shared memory, Required: 270336, Hardware limit: 232448"),
        RuntimeError(
            "could not create a primitive descriptor for a convolution forward propagation primitive"
        ),
        ValueError("out of memory"),
        ResourceError("recover: out of memory"),
    ],
    ids=str,
)
def test_other_errors_are_not(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_what_torch_raises_for_more_than_a_cpu_has_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 58, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def raised_after(first: Exception, *, said: bool) -> Exception:
    try:
        try:
            raise first
        except Exception as error:
            if said:
                raise ValueError("the unit failed") from error
            raise ValueError("the unit failed") from None
    except ValueError as error:
        return error


def test_the_cause_of_an_error_counts_unless_it_is_hidden() -> None:
    assert is_device_error(raised_after(DEAD[0], said=True))
    assert not is_device_error(raised_after(DEAD[0], said=False))
