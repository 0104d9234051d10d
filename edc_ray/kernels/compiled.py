"""The two passes over a layer's input (`core.measured_input`) as compiled kernels, for float32 on a CPU."""

from __future__ import annotations

import ctypes
import os
import warnings
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from edc_ray.core.measured_input import PixelCoefficients, StatisticKernels
from edc_ray.core.tile_weights import TileWeights, tile_weights
from edc_ray.core.torch_kernels import (
    TORCH_KERNELS,
    around_centre,
    channel_moments,
    neighbour_factors,
    patch_moments,
)
from edc_ray.errors import ConfigError
from edc_ray.kernels.compiler import CompilationError, compiled_library

CHOICE_VARIABLE = "EDC_RAY_KERNELS"

_SOURCE = Path(__file__).with_name("statistics.cpp")
# Into how many parts the work over planes is cut, whatever the number of threads: each has sums of its
# own over places, if those are wanted.
_BLOCKS, _BLOCKS_WITHOUT_PLACES = 16, 256


def kernels_for(device: torch.device) -> StatisticKernels:
    """The fastest kernels that this machine has for a device.

    The environment variable EDC_RAY_KERNELS chooses: "torch" takes torch's operations although there is
    a compiler, "compiled" refuses to go on without one, "auto" (the default) warns once.

    Raises:
        ConfigError: the variable holds something else, or asks for a compiler where there is none.
    """
    choice = os.environ.get(CHOICE_VARIABLE, "auto")
    if choice not in ("auto", "torch", "compiled"):
        raise ConfigError(
            f"{CHOICE_VARIABLE} names no kernels", found=repr(choice), expected="auto, torch or compiled"
        )
    if choice == "torch" or device.type != "cpu":
        return TORCH_KERNELS
    found = compiled_kernels()
    if isinstance(found, CompiledKernels):
        return found
    if choice == "compiled":
        raise ConfigError(
            f"{CHOICE_VARIABLE}=compiled, and the kernels cannot be compiled here",
            found=found,
            next="install a C++ compiler",
        )
    _warn(found)
    return TORCH_KERNELS


@cache
def compiled_kernels() -> CompiledKernels | str:
    """The compiled kernels, or why there are none. Compiled once, looked up once in a process."""
    try:
        return CompiledKernels(compiled_library(_SOURCE))
    except CompilationError as error:
        return str(error)


@cache
def _warn(why: str) -> None:
    warnings.warn(
        f"no compiled kernels ({why}): recover takes torch's operations, which are slower", stacklevel=3
    )


class CompiledKernels:
    """See `core.measured_input.StatisticKernels`. What the library does not take, torch's operations do.

    Results do not depend on the number of threads. Their last bits differ from torch's.
    """

    name = "compiled"
    memory_format = torch.channels_last

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def statistics(self, x_BCHW: Tensor, patch_side: int | None) -> tuple[Tensor, ...]:
        if not _takes(x_BCHW):
            return TORCH_KERNELS.statistics(x_BCHW, patch_side)
        height, width = x_BCHW.shape[-2:]
        x_BCHW, weights = x_BCHW.detach(), None
        if patch_side is not None:
            weights = tile_weights(height, width, patch_side, x_BCHW.device, torch.float64)
        if _is_channels_last(x_BCHW):
            return self._of_pixels(x_BCHW, weights)
        return self._of_planes(x_BCHW.contiguous(), weights)

    def add_gradient(
        self, x_BCHW: Tensor, upstream: Tensor | None, coefficients: PixelCoefficients, *, in_place: bool
    ) -> Tensor:
        if not _takes(x_BCHW) or (upstream is not None and upstream.dtype != x_BCHW.dtype):
            return TORCH_KERNELS.add_gradient(x_BCHW, upstream, coefficients, in_place=in_place)
        last = _is_channels_last(x_BCHW)
        layout = torch.channels_last if last else torch.contiguous_format
        x_BCHW = x_BCHW.detach().contiguous(memory_format=layout)
        if upstream is None:
            target = torch.empty_like(x_BCHW)
        else:
            target = upstream = upstream.contiguous(memory_format=layout)
            if not in_place:
                target = torch.empty_like(x_BCHW)
        images, channels, height, width = x_BCHW.shape
        constant, slope = coefficients.constant.float(), coefficients.slope.float()
        maps = torch.empty(0)
        if coefficients.maps is not None:
            maps = neighbour_factors(coefficients.maps.flatten(1), width).float().contiguous()
        sizes = (
            (images, channels, height, width)
            if last
            else (images * channels, channels, height * width, width)
        )
        self._run(
            "pixels_gradient" if last else "planes_gradient",
            x_BCHW, upstream, target, *sizes, constant, slope, maps, len(maps),
        )  # fmt: skip
        return target

    def _of_planes(self, x_BCHW: Tensor, weights: TileWeights | None) -> tuple[Tensor, ...]:
        images, channels, height, width = x_BCHW.shape
        planes, places = images * channels, height * width
        mean, square = torch.empty(2, planes, dtype=torch.float64)
        rows = 0 if weights is None else 3 if weights.whole else 7
        sums = torch.empty(rows, places, dtype=torch.float64)
        blocks = min(_BLOCKS if rows else _BLOCKS_WITHOUT_PLACES, planes)
        self._run("planes_statistics", x_BCHW, planes, places, width, rows, blocks, mean, square, sums)
        channel = channel_moments(mean.view(images, channels), square.view(images, channels))
        if weights is None:
            return channel
        away = mean - mean[0]
        maps = around_centre(sums[:2], sums[2:], width, away) / planes
        return *channel, *patch_moments(weights, maps, mean[0])

    def _of_pixels(self, x_BCHW: Tensor, weights: TileWeights | None) -> tuple[Tensor, ...]:
        images, channels, height, width = x_BCHW.shape
        near, rest, square = torch.empty(3, images * channels, dtype=torch.float64)
        tiles = rows = columns = torch.empty(0, 0, 0, dtype=torch.float64)
        if weights is not None:
            rows = torch.stack([weights.rows, weights.row_products[0], weights.row_products[2]])
            columns = torch.stack([weights.columns, weights.column_products[0], weights.column_products[1]])
            tiles = torch.empty(3, rows.shape[1], columns.shape[1], dtype=torch.float64)
        self._run(
            "pixels_statistics",
            x_BCHW, images, channels, height, width, rows.shape[1], columns.shape[1],
            rows, columns, near, rest, square, tiles,
        )  # fmt: skip
        channel = channel_moments((near + rest).view(images, channels), square.view(images, channels))
        if weights is None:
            return channel
        planes, away = images * channels, near - near[0]
        mean = (tiles[0] + away.sum()) / planes
        second = (tiles[2] + 2 * tiles[1] + away.square().sum()) / planes
        variance = (second - mean.square()).clamp(min=0)
        return *channel, mean.flatten() + near[0], variance.flatten()

    def _run(self, function: str, *arguments: Tensor | int | None) -> None:
        words = [
            ctypes.c_void_p(None if one is None else one.data_ptr())
            if one is None or isinstance(one, Tensor)
            else ctypes.c_long(one)
            for one in arguments
        ]
        if getattr(self._library, function)(*words, ctypes.c_int(torch.get_num_threads())):
            raise MemoryError(f"no memory for the partial sums of {function}")


def _takes(x_BCHW: Tensor) -> bool:
    return x_BCHW.device.type == "cpu" and x_BCHW.dtype == torch.float32 and x_BCHW.numel() > 0


def _is_channels_last(x_BCHW: Tensor) -> bool:
    """Single pixels lie both ways: as pixels, their channels are one long row."""
    if x_BCHW.shape[1] == 1:
        return False
    return x_BCHW.is_contiguous(memory_format=torch.channels_last)
