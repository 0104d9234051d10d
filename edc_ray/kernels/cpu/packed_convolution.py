"""A convolution without gradients: oneDNN's own, with the layers after it in the same pass."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from edc_ray.core.layers.norm_activation import frozen_formula

# oneDNN's name and numbers of an activation.
_Written = tuple[str, list[float]]
_WRITTEN: dict[type[nn.Module] | None, _Written] = {
    None: ("none", []), nn.ReLU: ("relu", []), nn.ReLU6: ("hardtanh", [0.0, 6.0]), nn.SiLU: ("swish", [])
}  # fmt: skip


class PackedConvolution(nn.Conv2d):
    """A Conv2d and the layers after it, forward only, with the same weights under the same names, by oneDNN.

    Torch reorders the weights of a convolution for oneDNN in every call, and on one thread it leaves 1x1
    convolutions to another library. Here weights stay in oneDNN's order. A frozen BatchNorm becomes part of
    them, and an activation part of writing the result. Other devices and dtypes than oneDNN's, and gradients,
    run layer by layer.

    Args:
        layer: the convolution to replace, `packable`. Its tensors are shared.
        norm: the BatchNorm2d after it, in eval mode, or None.
        activation: the ReLU, ReLU6 or SiLU after that, or None.

    Deviations:
        the result differs from that of the single layers by rounding. ReLU and ReLU6 give 0 for NaN.
    """

    def __init__(self, layer: nn.Conv2d, norm: nn.BatchNorm2d | None, activation: nn.Module | None) -> None:
        # They are pairs, which torch's types do not say.
        sides: tuple[Any, Any, Any, Any] = layer.kernel_size, layer.stride, layer.padding, layer.dilation
        super().__init__(
            layer.in_channels, layer.out_channels, *sides, layer.groups, layer.bias is not None, device="meta"
        )
        self.weight, self.bias = layer.weight, layer.bias
        # Not registered: the network keeps the names of its tensors.
        self._behind = tuple(each for each in (norm, activation) if each is not None)
        self._norm, self._written = (norm,), _WRITTEN[None if activation is None else type(activation)]
        self._packed: tuple[Tensor, Tensor | None] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H', W'], channels last if oneDNN computes."""
        known = input.device.type == "cpu" and input.dtype == self.weight.dtype == torch.float32
        if not known or input.dim() != 4 or input.numel() == 0 or torch.is_grad_enabled():
            result = super().forward(input)
            for module in self._behind:
                result = module(result)
            return result
        if self._packed is None:
            self._packed = self._pack(input.shape)
        return _convolution(input, *self._packed, _geometry(self), self._written)

    def _pack(self, shape: torch.Size) -> tuple[Tensor, Tensor | None]:
        weight, bias, (norm,) = self.weight.detach(), self.bias, self._norm
        if norm is not None:
            formula = frozen_formula(norm)
            scale = formula.scale.double()
            weight = (weight.double() * scale.view(-1, 1, 1, 1)).float()
            before = 0 if bias is None else bias.detach().double() * scale
            bias = (formula.shift.double() + before).float()
        return _reordered(weight, _geometry(self), list(shape)), None if bias is None else bias.detach()


def packable(layer: nn.Module) -> bool:
    """Whether a layer can be a `PackedConvolution` here."""
    if type(layer) is not nn.Conv2d or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        return False
    here = layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32
    return here and not layer.weight.requires_grad and _computes()


def _geometry(layer: nn.Conv2d) -> tuple[Any, ...]:
    return layer.padding, layer.stride, layer.dilation, layer.groups


def _convolution(
    x_BCHW: Tensor, weight: Tensor, bias: Tensor | None, places: tuple[Any, ...], written: _Written
) -> Tensor:
    return torch.ops.mkldnn._convolution_pointwise(x_BCHW, weight, bias, *places, *written, "")


def _reordered(weight: Tensor, places: tuple[Any, ...], shape: list[int]) -> Tensor:
    return torch.ops.mkldnn._reorder_convolution_weight(weight, *places, shape)


@cache
@torch.no_grad()
def _computes() -> bool:
    """Whether this torch has these private operations, and they compute what we expect."""
    x = torch.linspace(-1, 1, 2 * 4 * 5 * 6).view(2, 4, 5, 6)
    weight, bias = torch.linspace(-9, 9, 6 * 2 * 9).view(6, 2, 3, 3), torch.linspace(-1, 1, 6)
    places = ([1, 1], [2, 2], [1, 1], 2)
    plain = nn.functional.conv2d(x, weight, bias, (2, 2), (1, 1), (1, 1), 2)
    try:
        packed = _reordered(weight, places, list(x.shape))
        for module, written in _WRITTEN.items():
            expected = plain if module is None else module()(plain)
            if not torch.allclose(_convolution(x, packed, bias, places, written), expected, 1e-4, 1e-5):
                return False
    except Exception:  # a torch without oneDNN, or with other names or arguments
        return False
    return True
