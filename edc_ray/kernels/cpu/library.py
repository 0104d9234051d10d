"""The C++ files of this package as libraries, and the call of their functions."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from edc_ray.kernels.cpu.compiler import CompilationError, compiled_library, kernel_source

Kernel = TypeVar("Kernel")


class KernelLibrary:
    """The functions of a C++ file. Each returns 0, or another number if it found no memory.

    Raises:
        CompilationError: see `compiled_library`.
    """

    def __init__(self, source: Path) -> None:
        self._functions = compiled_library(source)

    def call(self, function: str, *arguments: Tensor | int | float | None) -> None:
        """Call a function with these arguments, then torch's number of threads.

        A tensor becomes a pointer to its first number, None a null pointer, an int a long, a float a double.

        Raises:
            MemoryError: the function found no memory.
        """
        words = [_word(one) for one in arguments]
        if getattr(self._functions, function)(*words, ctypes.c_int(torch.get_num_threads())):
            raise MemoryError(f"no memory for the intermediate results of {function}")


def _word(argument: Tensor | int | float | None) -> ctypes.c_void_p | ctypes.c_long | ctypes.c_double:
    if argument is None or isinstance(argument, Tensor):
        return ctypes.c_void_p(None if argument is None else argument.data_ptr())
    return ctypes.c_long(argument) if isinstance(argument, int) else ctypes.c_double(argument)


@cache
def kernel_library(name: str) -> KernelLibrary | str:
    """The library of a file of this package, or why there is none. A process tries once."""
    try:
        return KernelLibrary(kernel_source(name))
    except CompilationError as error:
        return str(error)


def kernel_of_the_same_bits(
    name: str, make: Callable[[KernelLibrary], Kernel], makes_the_same_bits: Callable[[Kernel], bool]
) -> Kernel | str:
    """A kernel that makes the same bits as torch, or why there is none.

    If the compiler fuses a product and a sum into one rounding, the bits differ and the kernel is refused.
    """
    library = kernel_library(name)
    if isinstance(library, str):
        return library
    kernel = make(library)
    return kernel if makes_the_same_bits(kernel) else "it makes other bits than torch's operations"
