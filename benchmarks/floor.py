"""The least time that a computation could take on this machine, from its arithmetic and its memory traffic.

The floor counts only what every implementation of the same network must do, layer by layer. For each
convolution and matrix product these are two operations for a multiplication with its addition, and the bytes
of its operands and results, each read or written once. Everything else (BatchNorm, activations, pooling,
statistics, losses) counts as free, so nothing can reach the floor. An operation takes its arithmetic at the
peak or its bytes at the full bandwidth, whichever is longer, and operations follow one another. Both peaks
are measured in the same run with the same threads and clock. The peak of arithmetic is that of the precision
in which the network computes; operands of 16 bits move half the bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from harness import chosen_numerics, tf32, timed
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten
_HALF = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Operation:
    """One convolution or product, or bytes that are moved without either."""

    name: str
    flops: float
    bytes: float


@dataclass(frozen=True)
class Machine:
    """flops: of products or convolutions in a second. bytes: read and written in a second."""

    flops: float
    bytes: float

    def least_seconds(self, operations: Iterable[Operation]) -> float:
        """The least time of the operations, one after the other."""
        return sum(max(each.flops / self.flops, each.bytes / self.bytes) for each in operations)


def measured_machine(device: torch.device, precision: str = "float32", *, repeats: int = 8) -> Machine:
    """Peaks of a device in a precision."""
    numbers = 2**28 if device.type == "cuda" else 2**25  # more than caches hold
    source = torch.ones(numbers, device=device)
    target = torch.empty_like(source)
    seconds = _best(lambda: target.copy_(source), device, repeats)
    return Machine(measured_flops(device, precision, repeats=repeats), 2 * 4 * numbers / seconds)


def measured_flops(device: torch.device, precision: str = "float32", *, repeats: int = 8) -> float:
    """Operations in a second of the best of some large products and convolutions.

    One library's convolutions may be faster than another's products.

    Args:
        device: whose peak.
        precision: float32, tf32, bfloat16 or float16; what tf32 is on a CPU is float32.
        repeats: of each.
    """
    side, images = (8192, 256) if device.type == "cuda" else (1536, 8)
    made: dict[str, Any] = {"device": device, "dtype": _HALF.get(precision, torch.float32)}
    left, right = (torch.randn(side, side, **made) for _ in range(2))
    product = torch.empty_like(left)
    maps = torch.randn(images, 128, 32, 32, **made).to(memory_format=torch.channels_last)
    weight = torch.randn(128, 128, 3, 3, **made).to(memory_format=torch.channels_last)
    (counted,) = operations_of(lambda: F.conv2d(maps, weight, padding=1))
    with tf32(precision == "tf32"):
        by_product = 2 * side**3 / _best(lambda: torch.mm(left, right, out=product), device, repeats)
        by_convolution = counted.flops / _best(lambda: F.conv2d(maps, weight, padding=1), device, repeats)
    return max(by_product, by_convolution)


def _best(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    run()
    return min(timed(run, device) for _ in range(repeats))


def operations_of(run: Callable[[], object]) -> list[Operation]:
    """The convolutions and products that a call makes, forwards and backwards."""
    with _Counter() as counter:
        run()
    return counter.operations


def chosen_operations_of(run: Callable[[], object], options: argparse.Namespace) -> list[Operation]:
    """Those of a call whose networks compute in the precision of the command line."""
    with chosen_numerics(options, compiled=False).autocast(options.device):
        return operations_of(run)


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (count := _COUNTED.get(func.overloadpacket)) is not None:
            self.operations += count(args, out)
        return out


def _convolution(args: Any, out: Tensor) -> list[Operation]:
    x, weight = args[0], args[1]
    return [Operation("convolution", _convolution_flops(x, weight, out, args[3:7]), _bytes(x, weight, out))]


def _convolution_backward(args: Any, out: tuple[Tensor | None, ...]) -> list[Operation]:
    grad, x, weight = args[:3]
    flops = _convolution_flops(x, weight, grad, args[4:8])
    found = []
    if out[0] is not None:
        found.append(Operation("convolution, to its input", flops, _bytes(grad, weight, out[0])))
    if out[1] is not None:
        found.append(Operation("convolution, to its weights", flops, _bytes(grad, x, out[1])))
    return found


def _convolution_flops(x: Tensor, weight: Tensor, out: Tensor, how: Sequence[Any]) -> float:
    """Two for each pair of a pixel and a weight that are multiplied; zeros of the padding do not count.

    how: stride, padding, dilation, transposed.
    """
    *steps, transposed = how
    if transposed:
        x, out = out, x
    pairs = 1
    for axis, (stride, padding, dilation) in enumerate(zip(*steps, strict=True), start=2):
        first = torch.arange(out.shape[axis])[:, None] * stride - padding
        at = first + torch.arange(weight.shape[axis]) * dilation
        pairs *= int(((at >= 0) & (at < x.shape[axis])).sum())
    # Channels [of the output, of the input in a group] of the weights.
    return 2.0 * len(x) * weight.shape[0] * weight.shape[1] * pairs


def _product(left: Tensor, right: Tensor, out: Tensor) -> list[Operation]:
    return [Operation("product", 2.0 * out.numel() * left.shape[-1], _bytes(left, right, out))]


def _bytes(*tensors: Tensor) -> float:
    return float(sum(each.numel() * each.element_size() for each in tensors))


_COUNTED: dict[Any, Callable[[Any, Any], list[Operation]]] = {
    _ATEN.convolution: _convolution,
    _ATEN.convolution_backward: _convolution_backward,
    _ATEN.mm: lambda args, out: _product(args[0], args[1], out),
    _ATEN.bmm: lambda args, out: _product(args[0], args[1], out),
    _ATEN.addmm: lambda args, out: _product(args[1], args[2], out),
    _ATEN.baddbmm: lambda args, out: _product(args[1], args[2], out),
}
