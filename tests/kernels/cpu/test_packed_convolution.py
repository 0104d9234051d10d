from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from edc_ray.kernels.cpu import packed_convolution
from edc_ray.kernels.cpu.packed_convolution import PackedConvolution, packable
from tests.core.layer_cases import random_input

LAYERS = {
    "1x1": nn.Conv2d(6, 8, 1, bias=False),
    "3x3, stride": nn.Conv2d(6, 8, 3, 2, padding=1),
    "depthwise": nn.Conv2d(6, 6, 3, groups=6, bias=False),
    "dilated, wide": nn.Conv2d(6, 4, (3, 5), padding=(2, 0), dilation=2),
}
ACTIVATIONS = (None, nn.ReLU(inplace=True), nn.ReLU6(), nn.SiLU())


def norm_of(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels).eval().requires_grad_(False)
    values = torch.linspace(-1, 1, channels)
    norm.weight.copy_(values * 3)
    norm.bias.copy_(-values)
    norm.running_mean.copy_(values.square())  # pyright: ignore[reportOptionalMemberAccess]
    norm.running_var.copy_(values.exp())  # pyright: ignore[reportOptionalMemberAccess]
    return norm


def by_layers(x: Tensor, *layers: nn.Module | None) -> Tensor:
    for layer in layers:
        x = x if layer is None else layer(x)
    return x


@pytest.fixture(autouse=True)
def _torch_has_it() -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("a torch without oneDNN")


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_results_are_those_of_the_layers_one_after_the_other(
    name: str, normed: bool, activation: nn.Module | None
) -> None:
    layer = LAYERS[name].requires_grad_(False)
    norm = norm_of(layer.out_channels) if normed else None
    packed = PackedConvolution(layer, norm, activation)
    assert packable(layer)
    for x in (random_input((3, 6, 12, 14)), random_input((1, 6, 9, 9))):  # of another size than at first
        exact = [copy.deepcopy(each) for each in (layer, norm) if each is not None]
        expected = by_layers(x.double(), *(each.double() for each in exact), activation)
        for images in (x, x.contiguous(memory_format=torch.channels_last)):
            result = packed(images)
            torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-5)
    assert packed._packed is not None
    assert list(packed.state_dict()) == list(layer.state_dict())


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_the_number_of_threads_changes_no_bit(name: str) -> None:
    packed = PackedConvolution(LAYERS[name].requires_grad_(False), None, nn.SiLU())
    x, before, answers = random_input((4, 6, 30, 31)), torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            answers.append(packed(x))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(answer, answers[0]) for answer in answers)


def test_where_gradients_are_wanted_the_layers_run() -> None:
    layer, norm = LAYERS["1x1"].requires_grad_(False), norm_of(8)
    packed = PackedConvolution(layer, norm, nn.SiLU())
    x = random_input((2, 6, 5, 5)).requires_grad_()
    gradients = [
        torch.autograd.grad(result.square().sum(), x)[0]
        for result in (packed(x), by_layers(x, layer, norm, nn.SiLU()))
    ]
    assert torch.equal(*gradients)


@torch.no_grad()
def test_numbers_that_it_does_not_take_run_layer_by_layer() -> None:
    layer = nn.Conv2d(6, 8, 1, bias=False).requires_grad_(False).double()
    packed = PackedConvolution(layer, None, nn.ReLU())
    x = random_input((2, 6, 5, 5)).double()
    assert torch.equal(packed(x), layer(x).relu())
    assert not packable(layer)


def test_layers_of_other_paddings_classes_and_learning_ones_are_not_packable() -> None:
    class Own(nn.Conv2d):
        pass

    others = [
        nn.Conv2d(3, 3, 3, padding="same"),
        nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"),
        Own(3, 3, 1),
    ]
    assert not any(packable(layer.requires_grad_(False)) for layer in (*others, nn.ReLU()))
    assert not packable(nn.Conv2d(3, 3, 1))


@pytest.mark.parametrize("answer", ["error", "other numbers"])
def test_a_torch_whose_operation_is_another_packs_nothing(
    answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = packed_convolution._convolution

    def other(*arguments: object) -> Tensor:
        if answer == "error":
            raise RuntimeError("no such operation")
        return real(*arguments) * 1.01  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(packed_convolution, "_convolution", other)
    packed_convolution._computes.cache_clear()
    try:
        assert not packable(LAYERS["1x1"].requires_grad_(False))
    finally:
        packed_convolution._computes.cache_clear()
