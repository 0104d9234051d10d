"""The compiled files of this package as libraries, and the one way to call what is in them."""

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
    """The functions of one C++ file. Each returns 0, or something else where memory is missing.

    Args:
        source: the file.

    Raises:
        CompilationError: as `compiled_library`.
    """

    def __init__(self, source: Path) -> None:
        self._functions = compiled_library(source)

    def call(self, function: str, *arguments: Tensor | int | float | None) -> None:
        """Calls a function with the arguments and, last, torch's number of threads.

        Args:
            function: its name.
            arguments: tensors as pointers to their first number (their layout is the caller's concern),
                None as a null pointer, whole numbers as long, others as double.

        Raises:
            MemoryError: it says that it found no memory.
        """
        words = [_word(one) for one in arguments]
        if getattr(self._functions, function)(*words, ctypes.c_int(torch.get_num_threads())):
            raise MemoryError(f"no memory for what {function} keeps in between")


def _word(argument: Tensor | int | float | None) -> ctypes.c_void_p | ctypes.c_long | ctypes.c_double:
    if argument is None or isinstance(argument, Tensor):
        return ctypes.c_void_p(None if argument is None else argument.data_ptr())
    return ctypes.c_long(argument) if isinstance(argument, int) else ctypes.c_double(argument)


@cache
def kernel_library(name: str) -> KernelLibrary | str:
    """The library of a file in this package, or why there is none. Looked for once in a process."""
    try:
        return KernelLibrary(kernel_source(name))
    except CompilationError as error:
        return str(error)


def kernel_of_the_same_bits(
    name: str, make: Callable[[KernelLibrary], Kernel], makes_the_same_bits: Callable[[Kernel], bool]
) -> Kernel | str:
    """A kernel that has proved to make torch's bits, or why there is none.

    A compiler that fuses a product and a sum into one rounding makes other bits; its kernel is not taken.
    """
    library = kernel_library(name)
    if isinstance(library, str):
        return library
    kernel = make(library)
    return kernel if makes_the_same_bits(kernel) else "it makes other bits than torch's operations"
