"""The Triton kernels against plain formulas: on a CUDA device, else on a CPU by Triton's interpreter.

Not collected by itself: on a CPU it is for a process of its own, with TRITON_INTERPRET=1 from the start.
"""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from edc_ray.core.layers.image_statistics import image_statistics
from edc_ray.core.layers.measured_input import Activation, Gradients, NormFormula, NormKernels
from edc_ray.core.layers.network_numerics import FLOAT32
from edc_ray.core.recover.pixel_kernels import TORCH_PIXEL_KERNELS, shared_view
from edc_ray.core.recover.state import Observer
from edc_ray.core.seeding import draws
from edc_ray.core.views.augment import AugmentParams, apply_shared_view, sample_views
from edc_ray.kernels.cpu.fused_network import fused_network
from edc_ray.kernels.cuda.pixels import TritonPixelKernels
from edc_ray.kernels.cuda.statistics import TritonKernels
from tests.core.layer_cases import (
    ACTIVATIONS,
    Case,
    assert_equals_plain_formulas,
    assert_norm_is_plain,
    random_input,
)
from tests.core.whole_view import whole_view

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LAYOUTS = (torch.contiguous_format, torch.channels_last)
# Sides that are multiples of the tile's or not, single pixels, a row, one image, channels that 8 divides.
SHAPES = [(2, 3, 7, 7), (3, 5, 1, 1), (3, 17, 4, 10), (2, 1, 5, 1), (1, 40, 8, 8)]


@pytest.fixture
def kernels() -> TritonKernels:
    return TritonKernels(DEVICE.type)


@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_statistics_and_gradient_are_those_of_plain_formulas(
    kernels: TritonKernels, shape: tuple[int, ...], mean: float
) -> None:
    for layout, side in product(LAYOUTS, (None, 4, 16)):
        x = random_input(shape, mean).to(DEVICE).contiguous(memory_format=layout)
        upstream = None if side is None else random_input(shape, seed=1).to(DEVICE)
        assert_equals_plain_formulas(Case(x, side, upstream), kernels)


def test_some_of_the_channels_and_sparse_maps_are_read_as_they_are(kernels: TritonKernels) -> None:
    whole = random_input((2, 8, 6, 10)).to(DEVICE).contiguous(memory_format=torch.channels_last)
    upstream = random_input((2, 4, 6, 10)).to(DEVICE)
    for part in (whole[:, :4], whole[:, 4:], random_input((2, 8, 6, 20)).to(DEVICE)[:, ::2, :, ::2]):
        assert_equals_plain_formulas(Case(part, 4, upstream), kernels)


@pytest.mark.parametrize("side", [None, 4, 16])
def test_each_image_by_itself(kernels: TritonKernels, side: int | None) -> None:
    x = random_input((3, 5, 9, 8), 10.0).to(DEVICE).contiguous(memory_format=torch.channels_last)
    ours, plain = kernels.image_statistics(x, side), image_statistics(x, side)
    for one, other in zip(ours.quantities, plain.quantities, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_maps_of_sixteen_bits_are_measured_as_the_same_numbers_in_float32(kernels: TritonKernels) -> None:
    x = random_input((2, 8, 5, 6)).to(DEVICE, torch.bfloat16).contiguous(memory_format=torch.channels_last)
    measured = kernels.statistics(x, 4)
    torch.testing.assert_close(measured, kernels.statistics(x.float(), 4), rtol=1e-6, atol=1e-6)
    by = [torch.randn_like(each) for each in measured.split([8, 8, 4, 4])]
    upstream = torch.randn_like(x)
    found = kernels.add_gradient(x, 4, measured, Gradients(by, upstream))
    exact = kernels.add_gradient(x.float(), 4, measured, Gradients(by, upstream.float()))
    torch.testing.assert_close(found, exact.bfloat16())


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_norms_are_those_of_plain_formulas(kernels: TritonKernels, activation: Activation | None) -> None:
    norms = kernels.norms
    assert norms is not None
    for shape, mean, layout in ((SHAPES[0], 0.0, LAYOUTS[0]), (SHAPES[2], 100.0, LAYOUTS[1])):
        x = random_input(shape, mean).to(DEVICE).contiguous(memory_format=layout)
        _assert_norm_equals_plain_formulas(norms, x, mean, activation)


def _assert_norm_equals_plain_formulas(
    norms: NormKernels, x: Tensor, mean: float, activation: Activation | None
) -> None:
    upstream = random_input(tuple(x.shape), seed=1).to(DEVICE)
    scale = torch.linspace(-2, 2, x.shape[1], device=DEVICE) + 0.01
    formula = NormFormula(scale, -scale * x.mean((0, 2, 3)) + 0.3, activation)
    by = [torch.linspace(low, high, x.shape[1], device=DEVICE) for low, high in ((-3, 3), (1, 2))]
    assert_norm_is_plain(norms, x, formula, upstream, by, mean)


def test_norms_pass_on_what_is_no_number(kernels: TritonKernels) -> None:
    norms = kernels.norms
    assert norms is not None
    x = torch.tensor([float("nan"), float("inf"), 200.0, -200.0, 0.0], device=DEVICE).view(5, 1, 1, 1)
    for activation, function in ACTIVATIONS.items():
        formula = NormFormula(torch.ones(1, device=DEVICE), torch.zeros(1, device=DEVICE), activation)
        result, _ = norms.normalised(x, formula, measured=False)
        torch.testing.assert_close(result, function(x), equal_nan=True)
        assert torch.isnan(norms.gradient(x, formula, None, Gradients((None, None), x))[0]).all()


def test_an_observer_that_sees_parts_gives_statistics_and_gradient_of_the_batch(
    kernels: TritonKernels,
) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.SiLU(), nn.Conv2d(8, 4, 1), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(64, 5)).to(DEVICE).eval().requires_grad_(False)
    images = random_input((3, 3, 6, 6)).to(DEVICE)
    fused = fused_network(network, "gradients", kernels, FLOAT32, images[:2])
    assert type(fused[1]) is not nn.BatchNorm2d  # pyright: ignore[reportIndexIssue]
    observer, found = Observer.of("a", fused, kernels=kernels), []
    for observer.images_at_once in (None, 2):
        leaf = images.clone().requires_grad_()
        logits, statistics = observer.measured(leaf, 4)
        values = [logits, *(each for layer in statistics.values() for each in layer.quantities)]
        loss = torch.stack(
            [(each * torch.linspace(1, 2, each.shape[-1], device=DEVICE)).sum() for each in values]
        )
        found.append([*values, *torch.autograd.grad(loss.sum(), leaf)])
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("size", [(9, 9), (20, 14)])
def test_a_view_and_its_gradient_are_those_of_torchs_interpolation(size: tuple[int, int]) -> None:
    corner = [torch.tensor([each]) for each in (size[0] - 1, 2, 1, 1)]
    one_pixel = AugmentParams(corner[0], corner[1], corner[2], corner[3], torch.tensor([True]))
    sampled = [sample_views(draws(0, index), 1, size, (0.08, 1.0)) for index in range(3)]
    images, upstream = (random_input((2, 3, *size), seed=seed).to(DEVICE) for seed in (0, 1))
    images.requires_grad_()
    for params in (whole_view(1, *size), one_pixel, *sampled):
        view = apply_shared_view(images, params)
        (gradient,) = torch.autograd.grad((view * upstream).sum(), images)
        numbers = [params.top, params.left, params.height, params.width, params.flip]
        box = torch.cat([each.int() for each in numbers]).to(DEVICE)
        for kernels, layout in product((TORCH_PIXEL_KERNELS, TritonPixelKernels()), LAYOUTS):
            ours = shared_view(images, box, kernels, layout)
            assert ours.is_contiguous(memory_format=layout)
            torch.testing.assert_close(ours, view, rtol=0, atol=4e-6)
            (found,) = torch.autograd.grad((ours * upstream).sum(), images)
            torch.testing.assert_close(found, gradient, rtol=0, atol=4e-6 * gradient.abs().max().item())


def test_a_step_of_pixels_is_adams_within_the_bounds() -> None:
    start = random_input((2, 3, 5, 5)).to(DEVICE)
    low, high = (torch.full((3, 1, 1), edge, device=DEVICE) for edge in (-1.0, 1.5))
    states = [[start.clone(), torch.zeros_like(start), torch.zeros_like(start)] for _ in range(2)]
    for number in range(1, 4):
        gradient = random_input((2, 3, 5, 5), seed=number).to(DEVICE)
        rates = torch.tensor([0.05 / (1 - 0.5**number), (1 - 0.9**number) ** 0.5], device=DEVICE)
        for kernels, (images, *moments) in zip(
            (TORCH_PIXEL_KERNELS, TritonPixelKernels()), states, strict=True
        ):
            kernels.step(images, (moments[0], moments[1]), gradient, rates, (low, high), (0.5, 0.9))
    for one, other in zip(*states, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    assert states[1][0].amin() >= -1
