from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from edc_ray.core.layers.layout_free import LayoutFreeKernels
from edc_ray.core.layers.measured_input import Activation, Gradients, NormFormula, split_quantities
from edc_ray.core.layers.network_numerics import FLOAT32
from edc_ray.core.layers.norm_activation import NormActivation
from edc_ray.core.layers.torch_kernels import TORCH_KERNELS
from edc_ray.core.recover.state import Observer
from edc_ray.errors import ConfigError
from edc_ray.kernels.cpu import statistics as compiled
from edc_ray.kernels.cpu.fused_network import fused_network
from edc_ray.kernels.cpu.statistics import CompiledKernels, compiled_kernels, kernels_for
from edc_ray.models.registry import build_network
from tests.core.layer_cases import (
    ACTIVATIONS,
    SHAPES,
    Case,
    assert_equals_plain_formulas,
    assert_norm_is_plain,
    found,
    random_input,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def kernels() -> CompiledKernels:
    answer = compiled_kernels()
    if isinstance(answer, str):
        pytest.skip(answer)
    return answer


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_statistics_and_gradient_are_those_of_plain_formulas(
    kernels: CompiledKernels, shape: tuple[int, ...], mean: float, layout: torch.memory_format
) -> None:
    x = random_input(shape, mean).contiguous(memory_format=layout)
    upstream = random_input(shape, seed=1)
    for given, patch_side in product((None, upstream), (None, 4, 16)):
        assert_equals_plain_formulas(Case(x, patch_side, given), kernels, owns_gradient=patch_side == 4)


def test_many_planes_are_flushed_to_wide_sums_in_time(kernels: CompiledKernels) -> None:
    for layout in (torch.contiguous_format, torch.channels_last):
        x = random_input((5, 150, 9, 70), mean=10.0).contiguous(memory_format=layout)
        assert_equals_plain_formulas(Case(x, 16, x.flip(0)), kernels)


def test_sparse_inputs_are_read_as_they_are(kernels: CompiledKernels) -> None:
    x, upstream = random_input((2, 6, 14, 28))[:, ::2, :, ::2], random_input((2, 3, 14, 28))[..., ::2]
    assert_equals_plain_formulas(Case(x, 4, upstream), kernels, owns_gradient=True)
    last = x.contiguous(memory_format=torch.channels_last)
    assert_equals_plain_formulas(Case(last, 4, upstream), kernels, owns_gradient=True)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_the_number_of_threads_changes_no_bit(kernels: CompiledKernels, layout: torch.memory_format) -> None:
    x = random_input((7, 13, 30, 30)).contiguous(memory_format=layout)
    before, answers = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            quantities, gradient = found(Case(x, 16, x.clone()), kernels)
            answers.append([*(each.detach() for each in quantities), gradient])
    finally:
        torch.set_num_threads(before)
    for answer in answers[1:]:
        assert all(torch.equal(one, other) for one, other in zip(answer, answers[0], strict=True))


def test_other_types_are_left_to_torch(kernels: CompiledKernels) -> None:
    x = random_input((2, 3, 8, 8)).double()
    assert torch.equal(kernels.statistics(x, 4), TORCH_KERNELS.statistics(x, 4))


@pytest.mark.parametrize("upstream_dtype", [None, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_maps_of_sixteen_bits_are_computed_as_the_same_numbers_in_float32(
    kernels: CompiledKernels, dtype: torch.dtype, upstream_dtype: torch.dtype | None
) -> None:
    x = random_input((3, 5, 7, 9)).to(dtype).contiguous(memory_format=torch.channels_last)
    above = random_input((3, 5, 7, 9), seed=1).contiguous(memory_format=torch.channels_last)
    upstream = None if upstream_dtype is None else above.to(upstream_dtype, copy=True)
    measured = kernels.statistics(x, 4)
    assert torch.equal(measured, kernels.statistics(x.float(), 4))
    by = [torch.ones_like(each) for each in split_quantities(measured, 5)]
    found = kernels.add_gradient(x, 4, measured, Gradients(by, upstream))
    wide = None if upstream is None else upstream.float()
    exact = kernels.add_gradient(x.float(), 4, measured, Gradients(by, wide))
    assert torch.equal(found, exact.to(dtype))
    if upstream is not None:
        assert torch.equal(upstream, above.to(upstream.dtype))


def test_channels_last_elsewhere_is_for_kernels_that_rearrange_nothing() -> None:
    cuda = torch.device("cuda")
    assert isinstance(kernels_for(cuda, torch.channels_last), LayoutFreeKernels)
    assert kernels_for(cuda, None) is TORCH_KERNELS


def test_the_variable_chooses(kernels: CompiledKernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(compiled.CHOICE_VARIABLE, raising=False)
    assert kernels_for(CPU) is kernels
    assert kernels_for(torch.device("cuda")) is TORCH_KERNELS
    monkeypatch.setenv(compiled.CHOICE_VARIABLE, "torch")
    assert kernels_for(CPU) is TORCH_KERNELS
    monkeypatch.setenv(compiled.CHOICE_VARIABLE, "fast")
    with pytest.raises(ConfigError, match=r"(?s)EDC_RAY_KERNELS names unknown kernels.*'fast'"):
        kernels_for(CPU)


def test_without_a_compiler_torch_computes_after_one_warning_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compiled, "compiled_kernels", lambda: "no C++ compiler on PATH, says this test")
    monkeypatch.delenv(compiled.CHOICE_VARIABLE, raising=False)
    with pytest.warns(UserWarning, match="no C\\+\\+ compiler on PATH, says this test"):
        assert kernels_for(CPU) is TORCH_KERNELS
    assert kernels_for(CPU) is TORCH_KERNELS
    monkeypatch.setenv(compiled.CHOICE_VARIABLE, "compiled")
    with pytest.raises(ConfigError, match="cannot be compiled here"):
        kernels_for(CPU)


def _formula(x: Tensor, activation: Activation | None) -> NormFormula:
    """A scale and a shift that bring about half of the channels' values to either side of 0."""
    scale = torch.linspace(-2, 2, x.shape[1]) + 0.01
    return NormFormula(scale, -scale * x.mean((0, 2, 3)) + 0.3, activation)


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("mean", [0.0, 100.0])
@pytest.mark.parametrize("shape", [*SHAPES, (2, 3, 70, 70)], ids=str)
def test_norms_are_those_of_plain_formulas(
    kernels: CompiledKernels, shape: tuple[int, ...], mean: float, activation: Activation | None
) -> None:
    norms = kernels.norms
    assert norms is not None
    x = random_input(shape, mean).contiguous(memory_format=torch.channels_last)
    upstream = random_input(shape, seed=1)
    formula = _formula(x, activation)
    by = (torch.linspace(-3, 3, shape[1]), torch.linspace(1, 2, shape[1]))
    assert_norm_is_plain(norms, x, formula, upstream, by, mean)


def test_norms_pass_on_what_is_no_number(kernels: CompiledKernels) -> None:
    norms = kernels.norms
    assert norms is not None
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), 200.0, -200.0, 0.0]).view(6, 1, 1, 1)
    for activation, function in ACTIVATIONS.items():
        formula = NormFormula(torch.ones(1), torch.zeros(1), activation)
        result, _ = norms.normalised(x, formula, measured=False)
        expected = function(x)
        expected[2] = result[2] if activation == "silu" else expected[2]  # torch has NaN or -0 there
        torch.testing.assert_close(result, expected, equal_nan=True)
        assert torch.isnan(norms.gradient(x, formula, None, Gradients((None, None), x))[0]).all()


def test_the_number_of_threads_changes_no_bit_of_norms(kernels: CompiledKernels) -> None:
    norms, before = kernels.norms, torch.get_num_threads()
    assert norms is not None
    x = random_input((3, 5, 70, 71)).contiguous(memory_format=torch.channels_last)
    formula = _formula(x, "silu")
    answers = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            result, found = norms.normalised(x, formula, measured=True)
            by = Gradients((formula.scale, None), x)
            answers.append((result, found, norms.gradient(x, formula, found, by)))
            answers[-1] += norms.normalised_images(x, formula)
    finally:
        torch.set_num_threads(before)
    for answer in answers[1:]:
        assert all(torch.equal(one, other) for one, other in zip(answer, answers[0], strict=True))


def test_observers_are_fused_and_see_what_the_network_sees(kernels: CompiledKernels) -> None:
    network = build_network("mobilenet_v2_small", num_classes=5, image_size=32, channels=3, seed=0)
    network.eval().requires_grad_(False)
    made = fused_network(network, "gradients", kernels, FLOAT32, torch.zeros(2, 3, 32, 32))
    plain, fused = Observer.of("a", network), Observer.of("a", made, kernels=kernels)
    assert not any(isinstance(module, NormActivation) for module in network.modules())
    assert any(isinstance(module, NormActivation) for module in fused.network.modules())
    assert plain.taps.kinds == fused.taps.kinds
    images = random_input((4, 3, 32, 32))
    found = []
    for observer in (plain, fused):
        with torch.no_grad(), observer.taps.measuring(4) as statistics:
            logits = observer.logits(images)
        found.append([logits, *(each for layer in plain.taps.names for each in statistics[layer].quantities)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
