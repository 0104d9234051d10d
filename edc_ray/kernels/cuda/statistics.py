"""The two passes over a layer's input (`core.layers.measured_input`) as Triton kernels, for CUDA devices."""

from __future__ import annotations

import torch
from torch import Tensor

from edc_ray.core.layers.measured_input import Gradients, NormFormula, NormKernels
from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.layers.network_numerics import HALF_TYPES
from edc_ray.core.layers.torch_kernels import TORCH_KERNELS
from edc_ray.kernels.cuda import operations  # noqa: F401  (registers them)
from edc_ray.kernels.cuda.measuring_pass import ACTIVATIONS

_OPERATIONS = torch.ops.edc_ray


class TritonKernels:
    """See `StatisticKernels` and `NormKernels`. Torch's operations handle what the passes do not take.

    Moments are computed in float64 and given in float32. The bits are the same each time, because no order of
    additions changes. The device type "cpu" is for Triton's interpreter.
    """

    name = "triton"
    memory_format = torch.channels_last
    dtypes = (torch.float32, *HALF_TYPES)

    def __init__(self, device_type: str = "cuda") -> None:
        self._device_type = device_type
        self.norms: NormKernels | None = self

    def take(self, x_BCHW: Tensor) -> bool:
        """Whether the passes take such an input."""
        there = x_BCHW.device.type == self._device_type and x_BCHW.numel() > 0
        return there and x_BCHW.dtype in self.dtypes

    def statistics(self, x_BCHW: Tensor, patch_side: int | None) -> Tensor:
        if not self.take(x_BCHW):
            return TORCH_KERNELS.statistics(x_BCHW, patch_side)
        return _OPERATIONS.moments(x_BCHW.detach(), patch_side or 0, False, torch.float32)[0]

    def image_statistics(self, x_BCHW: Tensor, patch_side: int | None) -> LayerStatistics:
        """See `core.layers.image_statistics.image_statistics`."""
        found_BQ = _OPERATIONS.moments(x_BCHW.detach(), patch_side or 0, True, torch.float64)
        channels = x_BCHW.shape[1]
        tiles = found_BQ.shape[1] // 2 - channels
        lengths = [channels, channels, tiles, tiles] if patch_side is not None else [channels, channels]
        return LayerStatistics(*found_BQ.split(lengths, 1))

    def add_gradient(self, x_BCHW: Tensor, patch_side: int | None, measured: Tensor, by: Gradients) -> Tensor:
        if not self.take(x_BCHW) or measured.dtype != torch.float32:
            return TORCH_KERNELS.add_gradient(x_BCHW, patch_side, measured, by)
        by_four = [*by.by_quantity, *[None] * (4 - len(by.by_quantity))]
        return _OPERATIONS.moments_gradient(x_BCHW.detach(), patch_side or 0, measured, *by_four, by.upstream)

    def normalised(
        self, x_BCHW: Tensor, formula: NormFormula, *, measured: bool
    ) -> tuple[Tensor, Tensor | None]:
        x_BCHW = x_BCHW.detach()
        if not measured:
            return _OPERATIONS.norm(x_BCHW, *_words(formula)), None
        result, found = _OPERATIONS.norm_moments(x_BCHW, *_words(formula), False, torch.float32)
        return result, found[0]

    def normalised_images(self, x_BCHW: Tensor, formula: NormFormula) -> tuple[Tensor, Tensor, Tensor]:
        result, found = _OPERATIONS.norm_moments(x_BCHW, *_words(formula), True, torch.float64)
        return result, *found.split(x_BCHW.shape[1], 1)

    def gradient(
        self, x_BCHW: Tensor, formula: NormFormula, measured: Tensor | None, by: Gradients
    ) -> Tensor:
        words = _words(formula)
        return _OPERATIONS.norm_gradient(x_BCHW.detach(), *words, by.upstream, measured, *by.by_quantity)


def _words(formula: NormFormula) -> tuple[Tensor, Tensor, int]:
    """Scale, shift, and the activation's number."""
    return formula.scale, formula.shift, ACTIVATIONS[formula.activation]
