"""Inputs of layers; their statistics and gradients by plain formulas in float64, and by kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from edc_ray.core.layers.measured_input import (
    Activation,
    Gradients,
    NormFormula,
    NormKernels,
    StatisticKernels,
    measure,
)

# Sides that are multiples of the tile's or not, single pixels, rows, columns, batch 1, one channel.
SHAPES = [
    (2, 3, 7, 7),
    (4, 8, 14, 14),
    (1, 5, 1, 1),
    (3, 5, 1, 1),
    (2, 4, 56, 56),
    (2, 4, 32, 48),
    (3, 17, 9, 20),
    (2, 1, 5, 1),
    (3, 1, 1, 6),
    (1, 40, 16, 16),
]

ACTIVATIONS: dict[Activation | None, Callable[[Tensor], Tensor]] = {
    None: lambda y: y,
    "relu": torch.relu,
    "relu6": F.relu6,
    "silu": F.silu,
}


@dataclass(frozen=True)
class Case:
    """One input of a layer; `upstream` is the gradient that the layer itself sends back."""

    x: Tensor  # [B, C, H, W]
    patch_side: int | None
    upstream: Tensor | None


def random_input(shape: tuple[int, ...], mean: float = 0.0, seed: int = 0) -> Tensor:
    """Standard deviation 1 in each channel, whose means lie around `mean`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) + mean + torch.randn(shape[1], 1, 1, generator=generator)


def plain_quantities(x_BCHW: Tensor, patch_side: int | None) -> list[Tensor]:
    quantities = [x_BCHW.mean((0, 2, 3)), x_BCHW.var((0, 2, 3), correction=0)]
    if patch_side is None:
        return quantities
    rows, columns = (-(-length // patch_side) for length in x_BCHW.shape[-2:])
    size = (rows * patch_side, columns * patch_side)
    stretched = F.interpolate(x_BCHW, size=size, mode="bilinear", align_corners=False)
    tiles = stretched.unflatten(3, (columns, patch_side)).unflatten(2, (rows, patch_side))
    tiles = tiles.permute(2, 4, 0, 1, 3, 5).flatten(2).flatten(0, 1)
    return [*quantities, tiles.mean(1), tiles.var(1, correction=0)]


def expected(case: Case) -> tuple[list[Tensor], Tensor]:
    """In float64, by autograd of the plain formulas."""
    x = case.x.double().requires_grad_()
    quantities = plain_quantities(x, case.patch_side)
    return quantities, _gradient(case, x, x * 1, quantities)


def found(
    case: Case, kernels: StatisticKernels, *, owns_gradient: bool = False
) -> tuple[list[Tensor], Tensor]:
    """In the input's own type, by the kernels."""
    x = case.x.detach().requires_grad_()
    passed, quantities = measure(x, case.patch_side, kernels, owns_gradient=owns_gradient)
    return list(quantities), _gradient(case, x, passed, list(quantities))


def _gradient(case: Case, x: Tensor, passed: Tensor, quantities: list[Tensor]) -> Tensor:
    """Of a loss in which every statistic has another weight, on the scale of the pixels."""
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(each.shape, generator=generator, dtype=torch.float64) for each in quantities]
    terms = [(each * weight.to(x.device)).sum() for each, weight in zip(quantities, weights, strict=True)]
    loss = torch.stack(terms).sum() * (x.numel() / 100)
    if case.upstream is not None:
        loss = loss + (passed * case.upstream).sum()
    return torch.autograd.grad(loss, x)[0]


def assert_equals_plain_formulas(
    case: Case, kernels: StatisticKernels, *, owns_gradient: bool = False, tolerance: float = 1e-6
) -> None:
    """Statistics and gradient within `tolerance`, in units of their size or the mean's."""
    ours, gradient = found(case, kernels, owns_gradient=owns_gradient)
    plain, plain_gradient = expected(case)
    largest = max(1.0, case.x.abs().max().item())
    for index, (one, other) in enumerate(zip(ours, plain, strict=True)):
        # A plane's mean has the error of float32 at its size. The mean affects a variance in no other way.
        size = largest if index % 2 == 0 else max(1.0, other.max().item()) * (1 + largest / 10)
        torch.testing.assert_close(one.double(), other, rtol=0, atol=tolerance * size)
    # The gradient of a variance holds x - mean, whose rounding is that of the pixels.
    scale = plain_gradient.abs().max().item() * largest
    torch.testing.assert_close(gradient.double(), plain_gradient, rtol=0, atol=tolerance * scale + 1e-12)


def assert_norm_is_plain(
    norms: NormKernels, x: Tensor, formula: NormFormula, upstream: Tensor, by: Sequence[Tensor], mean: float
) -> None:
    """Results, statistics and gradient of a frozen norm by kernels are those of plain formulas in float64."""
    result, found = norms.normalised(x, formula, measured=True)
    assert found is not None
    unmeasured, nothing = norms.normalised(x, formula, measured=False)
    assert nothing is None
    assert torch.equal(unmeasured, result)
    again, *of_images = norms.normalised_images(x, formula)
    assert torch.equal(again, result)
    gradient = norms.gradient(x, formula, found, Gradients(by, upstream))

    wide = x.double().requires_grad_()
    y = wide * formula.scale.double()[:, None, None] + formula.shift.double()[:, None, None]
    plain = ACTIVATIONS[formula.activation](y)
    quantities = wide.mean((0, 2, 3)), wide.var((0, 2, 3), correction=0)
    torch.testing.assert_close(found.double(), torch.cat(quantities), rtol=2e-6, atol=2e-6)
    for each, plainly in zip(of_images, (wide.mean((2, 3)), wide.var((2, 3), correction=0)), strict=True):
        torch.testing.assert_close(each, plainly, rtol=2e-6, atol=4e-6)
    tolerance = 2e-6 * (1 + mean)
    torch.testing.assert_close(result.double(), plain, rtol=2e-6, atol=tolerance)
    loss = (plain * upstream).sum() + sum((b * q).sum() for b, q in zip(by, quantities, strict=True))
    (expected,) = torch.autograd.grad(loss, wide)
    # At a bend, rounding decides on which side float32 falls.
    bends = {"relu": (0, 0), "relu6": (0, 6)}.get(formula.activation or "", (torch.inf, torch.inf))
    at_a_bend = ((y - bends[0]).abs() < 4 * tolerance) | ((y - bends[1]).abs() < 4 * tolerance)
    assert (gradient - expected).abs().masked_fill(at_a_bend, 0).max() < 4 * tolerance
