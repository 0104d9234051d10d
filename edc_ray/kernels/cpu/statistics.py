"""Statistics of layers' inputs, and a ConvNet's norm and pooling, compiled for float32 on a CPU."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from edc_ray.core.layers.image_statistics import ImageStatistics, image_statistics
from edc_ray.core.layers.layout_free import LayoutFreeKernels
from edc_ray.core.layers.measured_input import (
    Activation,
    Gradients,
    NormFormula,
    NormKernels,
    StatisticKernels,
)
from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.layers.network_numerics import HALF_TYPES
from edc_ray.core.layers.norm_pool import TORCH_NORM_POOL, NormPoolKernels
from edc_ray.core.layers.tile_weights import axis_weights
from edc_ray.core.layers.torch_kernels import TORCH_KERNELS
from edc_ray.errors import ConfigError
from edc_ray.kernels.cpu.library import KernelLibrary, kernel_library
from edc_ray.kernels.cuda.availability import triton_kernels

CHOICE_VARIABLE = "EDC_RAY_KERNELS"

_ACTIVATIONS: dict[Activation | None, int] = {None: 0, "relu": 1, "relu6": 2, "silu": 3}  # as in norms.h


def kernels_for(device: torch.device, memory_format: torch.memory_format | None = None) -> StatisticKernels:
    """The fastest kernels on this machine for a device and, if the run fixes it, a format of activations.

    The environment variable EDC_RAY_KERNELS chooses: "torch" uses torch's operations, "compiled" refuses to
    work without a C++ compiler, "auto" (the default) warns once if there is none.

    Raises:
        ConfigError: the variable holds something else, or "compiled" without a compiler.
    """
    choice = os.environ.get(CHOICE_VARIABLE, "auto")
    if choice not in ("auto", "torch", "compiled"):
        raise ConfigError(
            f"{CHOICE_VARIABLE} names unknown kernels", found=repr(choice), expected="auto, torch or compiled"
        )
    if device.type == "cuda" and choice != "torch" and torch.cuda.is_available():
        own = triton_kernels()
        if not isinstance(own, str):
            return own
        _warn(own)
    if memory_format == torch.channels_last:
        return LayoutFreeKernels()
    if choice == "torch" or device.type != "cpu":
        return TORCH_KERNELS
    found = compiled_kernels()
    if isinstance(found, CompiledKernels):
        return found
    if choice == "compiled":
        raise ConfigError(
            f"{CHOICE_VARIABLE}=compiled, but the kernels cannot be compiled here",
            found=found,
            next="install a C++ compiler",
        )
    _warn(found)
    return TORCH_KERNELS


@runtime_checkable
class MeasuresImages(Protocol):
    """Kernels that can also measure every image by itself."""

    def image_statistics(self, x_BCHW: Tensor, patch_side: int | None) -> LayerStatistics:
        """See `core.layers.image_statistics.image_statistics`."""
        ...


def image_statistics_for(device: torch.device) -> ImageStatistics:
    """The fastest `image_statistics` for a device, chosen like `kernels_for`, with its errors."""
    kernels = kernels_for(device)
    return kernels.image_statistics if isinstance(kernels, MeasuresImages) else image_statistics


def norm_pool_kernels_for(device: torch.device) -> NormPoolKernels | None:
    """The fastest implementation for a device, chosen like `kernels_for`, with its errors.

    None if torch's own layers are at least as good. Implementations differ in the last bits.
    """
    if device.type != "cpu":
        return None
    if not isinstance(kernels_for(device), CompiledKernels):
        return TORCH_NORM_POOL
    library = kernel_library("norm_pool")
    return TORCH_NORM_POOL if isinstance(library, str) else CompiledNormPool(library)


@cache
def compiled_kernels() -> CompiledKernels | str:
    """The compiled kernels, or why they cannot be used. A process tries once."""
    library = kernel_library("statistics")
    return library if isinstance(library, str) else CompiledKernels(library)


@cache
def _warn(why: str) -> None:
    warnings.warn(f"no compiled kernels ({why}): using torch's operations, which are slower", stacklevel=3)


class CompiledKernels:
    """See `StatisticKernels` and `NormKernels`. Torch's operations handle what the library does not support.

    Maps of 16 bits are widened first: a copy is far cheaper than torch's passes. Results do not depend on
    the number of threads. Their last bits differ from torch's.
    """

    name = "compiled"
    memory_format = torch.channels_last
    dtypes = (torch.float32,)

    def __init__(self, library: KernelLibrary) -> None:
        self._library = library
        self.norms: NormKernels | None = self

    def statistics(self, x_BCHW: Tensor, patch_side: int | None) -> Tensor:
        x_BCHW = _widened(x_BCHW)
        if not _is_taken(x_BCHW):
            return TORCH_KERNELS.statistics(x_BCHW, patch_side)
        kind, x_BCHW = _laid_out(x_BCHW.detach())
        sizes, weights = _tiles_of(x_BCHW, patch_side)
        out = torch.empty(2 * x_BCHW.shape[1] + 2 * sizes[4] * sizes[5], dtype=torch.float64)
        self._library.call(f"{kind}_statistics", x_BCHW, *sizes, *weights, out)
        return out

    def add_gradient(self, x_BCHW: Tensor, patch_side: int | None, measured: Tensor, by: Gradients) -> Tensor:
        by_quantity, upstream, in_place = by
        if x_BCHW.dtype in HALF_TYPES and x_BCHW.device.type == "cpu":
            # The widened gradient is a private copy.
            wide = None if upstream is None else upstream.float()
            owned = Gradients(by_quantity, wide, in_place or wide is not upstream)
            return self.add_gradient(x_BCHW.float(), patch_side, measured, owned).to(x_BCHW.dtype)
        if not _is_taken(x_BCHW) or (upstream is not None and upstream.dtype != x_BCHW.dtype):
            return TORCH_KERNELS.add_gradient(x_BCHW, patch_side, measured, by)
        kind, x_BCHW = _laid_out(x_BCHW.detach())
        layout = torch.channels_last if kind == "pixels" else torch.contiguous_format
        if upstream is not None:
            upstream = upstream.contiguous(memory_format=layout)
        target = upstream if upstream is not None and in_place else torch.empty_like(x_BCHW)
        sizes, weights = _tiles_of(x_BCHW, patch_side)
        dense = [*_contiguous(by_quantity), None, None][:4]
        self._library.call(f"{kind}_gradient", x_BCHW, upstream, target, *sizes, *weights, *dense, measured)
        return target

    def image_statistics(self, x_BCHW: Tensor, patch_side: int | None) -> LayerStatistics:
        """See `core.layers.image_statistics.image_statistics`."""
        library, x_BCHW = kernel_library("image_statistics"), _widened(x_BCHW)
        if isinstance(library, str) or not _is_taken(x_BCHW):
            return image_statistics(x_BCHW, patch_side)
        pixels = x_BCHW.shape[1] > 1 and x_BCHW.is_contiguous(memory_format=torch.channels_last)
        pixels = pixels and not x_BCHW.is_contiguous()
        x_BCHW = x_BCHW.detach() if pixels else x_BCHW.detach().contiguous()
        sizes, weights = _tiles_of(x_BCHW, patch_side)
        images, channels, _, _, rows, columns = sizes
        mean, variance = torch.empty(2, images, channels + rows * columns, dtype=torch.float64)
        library.call("image_statistics", x_BCHW, int(not pixels), *sizes, *weights, mean, variance)
        quantities = [mean[:, :channels], variance[:, :channels]]
        if patch_side is not None:
            quantities += [mean[:, channels:], variance[:, channels:]]
        return LayerStatistics(*quantities)

    def take(self, x_BCHW: Tensor) -> bool:
        return _is_taken(x_BCHW) and x_BCHW.is_contiguous(memory_format=torch.channels_last)

    def normalised(
        self, x_BCHW: Tensor, formula: NormFormula, *, measured: bool
    ) -> tuple[Tensor, Tensor | None]:
        result, words = _norm_words(x_BCHW, formula)
        found = torch.empty(2 * x_BCHW.shape[1], dtype=torch.float64) if measured else None
        self._library.call("norms_forward", x_BCHW, *words, 0, found)
        return result, found

    def normalised_images(self, x_BCHW: Tensor, formula: NormFormula) -> tuple[Tensor, Tensor, Tensor]:
        result, words = _norm_words(x_BCHW, formula)
        mean, variance = found = torch.empty(2, *x_BCHW.shape[:2], dtype=torch.float64)
        self._library.call("norms_forward", x_BCHW, *words, 1, found)
        return result, mean, variance

    def gradient(
        self, x_BCHW: Tensor, formula: NormFormula, measured: Tensor | None, by: Gradients
    ) -> Tensor:
        (result, words), upstream = _norm_words(x_BCHW, formula), by.upstream
        if upstream is not None:
            upstream = upstream.contiguous(memory_format=torch.channels_last)
        dense = _contiguous(by.by_quantity)
        self._library.call("norms_gradient", x_BCHW, upstream, *words, *dense, measured)
        return result


class CompiledNormPool(NormPoolKernels):
    """See `NormPoolKernels`. Torch's operations handle what the library does not support.

    An image's results depend neither on the number of threads nor on the other images.
    """

    memory_format = torch.channels_last

    def __init__(self, library: KernelLibrary) -> None:
        self._library = library

    def forward(
        self, x_BCHW: Tensor, weight_C: Tensor, bias_C: Tensor, epsilon: float
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        if x_BCHW.dtype != torch.float32:
            return TORCH_NORM_POOL.forward(x_BCHW, weight_C, bias_C, epsilon)
        images, channels, height, width = x_BCHW.shape
        result = x_BCHW.new_empty(images, height // 2, width // 2, channels)
        mean, inverse = x_BCHW.new_empty(2, images, channels)
        words = _pixels(x_BCHW), weight_C.contiguous(), bias_C.contiguous(), result, mean, inverse
        self._library.call("norm_pool_forward", *words, *x_BCHW.shape, epsilon)
        return result.permute(0, 3, 1, 2), (mean, inverse)

    def backward(
        self, x_BCHW: Tensor, kept: tuple[Tensor, ...], weight_C: Tensor, bias_C: Tensor, by_result: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        if x_BCHW.dtype != torch.float32:
            return TORCH_NORM_POOL.backward(x_BCHW, kept, weight_C, bias_C, by_result)
        x_BHWC = _pixels(x_BCHW)
        by_x = torch.empty_like(x_BHWC)
        by_weight, by_bias = x_BCHW.new_empty(2, *x_BCHW.shape[:2])
        words = x_BHWC, _pixels(by_result), weight_C.contiguous(), bias_C.contiguous(), *kept
        self._library.call("norm_pool_backward", *words, by_x, by_weight, by_bias, *x_BCHW.shape)
        return by_x.permute(0, 3, 1, 2), by_weight.sum(0), by_bias.sum(0)


def _norm_words(x_BCHW: Tensor, formula: NormFormula) -> tuple[Tensor, tuple[Tensor | int, ...]]:
    """A tensor for the result, and the arguments about formula, result and size: images, channels, pixels."""
    images, channels, height, width = x_BCHW.shape
    result = torch.empty_like(x_BCHW, memory_format=torch.channels_last)
    activation = _ACTIVATIONS[formula.activation]
    return result, (formula.scale, formula.shift, activation, result, images, channels, height * width)


def _contiguous(by_quantity: Sequence[Tensor | None]) -> list[Tensor | None]:
    return [None if each is None else each.contiguous() for each in by_quantity]


def _is_taken(x_BCHW: Tensor) -> bool:
    """Whether the kernels support an input."""
    return x_BCHW.device.type == "cpu" and x_BCHW.dtype == torch.float32 and x_BCHW.numel() > 0


def _widened(x_BCHW: Tensor) -> Tensor:
    """An input in float32 if it has 16 bits and lies on the CPU."""
    half = x_BCHW.device.type == "cpu" and x_BCHW.dtype in HALF_TYPES
    return x_BCHW.detach().float() if half else x_BCHW


def _laid_out(x_BCHW: Tensor) -> tuple[str, Tensor]:
    """The kernels' name of an input's layout, and the input, copied if it has neither layout.

    Single pixels have both layouts. As "pixels", their channels are one long row.
    """
    if x_BCHW.shape[1] > 1 and x_BCHW.is_contiguous(memory_format=torch.channels_last):
        return "pixels", x_BCHW
    return "planes", x_BCHW.contiguous()


def _tiles_of(
    x_BCHW: Tensor, patch_side: int | None
) -> tuple[tuple[int, ...], tuple[Tensor, Tensor] | tuple[None, None]]:
    """Images, channels, height, width, rows and columns of tiles; the weights of rows and of columns."""
    if patch_side is None:
        return (*x_BCHW.shape, 0, 0), (None, None)
    height, width = x_BCHW.shape[-2:]
    sizes = (*x_BCHW.shape, *(-(-length // patch_side) for length in (height, width)))
    return sizes, (_axis(height, patch_side), _axis(width, patch_side))


@cache
def _axis(length: int, side: int) -> Tensor:
    """Weights of an axis: of values, squares and products with the next."""
    axis = axis_weights(length, side)
    return torch.stack([axis.value, axis.square, axis.product])


def _pixels(x_BCHW: Tensor) -> Tensor:
    """[B, H, W, C], contiguous; copied only if it is not channels last."""
    return x_BCHW.permute(0, 2, 3, 1).contiguous()
