"""The C++ files of this package: compiled once by this machine's compiler, loaded, and called."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

CACHE_VARIABLE = "EDC_RAY_KERNEL_CACHE"

Kernel = TypeVar("Kernel")

_COMMON = ("-O3", "-shared", "-fPIC", "-std=c++14")
# The best first. Not every compiler knows every flag, and not every machine has OpenMP's library.
_VARIANTS = (
    ("-march=native", "-fopenmp"),
    ("-march=native", "-fopenmp-simd"),
    ("-fopenmp",),
    ("-fopenmp-simd",),
    (),
)
_SECONDS = 120
_SOURCES = Path(__file__).parent / "source"


class CompilationError(Exception):
    """No compiler on this machine makes a library that loads."""


def kernel_source(name: str) -> Path:
    """The C++ file of a kernel in this package."""
    return _SOURCES / f"{name}.cpp"


def compiled_library(source: Path) -> ctypes.CDLL:
    """The library of `source`, from the cache or compiled into it.

    Its name is a hash of all C++ in its folder, compiler, flags and processor. The cache is the folder that
    EDC_RAY_KERNEL_CACHE names, else the user's cache folder, else a folder of this process. Several processes
    may compile at once, because each renames a whole file into place.

    Raises:
        CompilationError: there is no compiler, or none of its libraries loads.
    """
    compiler = _compiler()
    folder = _cache_folder()
    files = sorted(path for path in source.parent.iterdir() if path.suffix in (".cpp", ".h"))
    texts = [path.read_text(encoding="utf-8") for path in files]
    identity = "\n".join([*texts, _version(compiler), _processor()])
    answer = "it was not run"
    for flags in _VARIANTS:
        digest = hashlib.sha256("\n".join([identity, *_COMMON, *flags]).encode()).hexdigest()[:24]
        library = folder / f"{source.stem}-{digest}.so"
        try:
            if not library.exists():
                _compile([compiler, *_COMMON, *flags], source, library)
            return ctypes.CDLL(str(library))
        except subprocess.CalledProcessError as error:
            answer = error.stderr.strip().rpartition("\n")[2]
        except (OSError, subprocess.SubprocessError) as error:
            answer = str(error)
    raise CompilationError(f"{Path(compiler).name} makes no library that loads: {answer}")


class KernelLibrary:
    """The functions of a C++ file. Each returns 0, or another number if it found no memory."""

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


def _word(argument: Tensor | int | float | None) -> ctypes.c_void_p | ctypes.c_long | ctypes.c_double:
    if argument is None or isinstance(argument, Tensor):
        return ctypes.c_void_p(None if argument is None else argument.data_ptr())
    return ctypes.c_long(argument) if isinstance(argument, int) else ctypes.c_double(argument)


def _compiler() -> str:
    for name in filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")):
        if found := shutil.which(name):
            return found
    raise CompilationError("no C++ compiler on PATH")


def _compile(command: list[str], source: Path, library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent, prefix="making-") as folder:
        made = Path(folder, library.name)
        words = [*command, str(source), "-o", str(made)]
        subprocess.run(words, check=True, capture_output=True, text=True, timeout=_SECONDS)
        made.replace(library)


def _version(compiler: str) -> str:
    try:
        words = [compiler, "--version"]
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=_SECONDS).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise CompilationError(f"{compiler} --version fails: {error}") from error


def _processor() -> str:
    """What -march=native depends on: different machines may share a home folder."""
    lines = [platform.machine(), platform.system()]
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            first = file.read().partition("\n\n")[0].splitlines()
        lines += [line for line in first if line.startswith(("model name", "flags", "Features", "CPU part"))]
    except OSError:
        lines.append(platform.processor())
    return "\n".join(lines)


def _cache_folder() -> Path:
    named = os.environ.get(CACHE_VARIABLE)
    cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    folder = Path(named) if named else Path(cache, "edc-ray", "kernels")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    except (OSError, RuntimeError):
        pass
    return Path(tempfile.mkdtemp(prefix="edc-ray-kernels-"))
