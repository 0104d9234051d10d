from __future__ import annotations

import pytest
import torch

from edc_ray.core.layers.moments import LayerStatistics
from edc_ray.core.recover.matching import Layout, matching_distances, pack, updated_estimate
from tests.core.one_layer import layer_statistics, matching_loss


def _statistics(seed: int, channels: int = 3) -> LayerStatistics:
    generator = torch.Generator().manual_seed(seed)
    return LayerStatistics(*(torch.rand(n, generator=generator) for n in (channels, channels, 4, 4)))


def test_unpacking_a_packed_vector_gives_the_layers_back() -> None:
    layers = {"a": _statistics(0), "b": LayerStatistics(torch.ones(2), torch.zeros(2))}
    again = Layout.of(layers).unpack(pack(layers.values()))
    for name, layer in layers.items():
        for left, right in zip(layer.quantities, again[name].quantities, strict=True):
            assert torch.equal(left, right)


def test_places_of_a_layer_are_those_of_its_part_of_the_vector() -> None:
    layers = {"a": _statistics(0), "b": _statistics(1, 5)}
    layout = Layout.of(layers)
    packed = pack(layers.values())
    for name, layer in layers.items():
        assert torch.equal(packed[layout.entries[name]], pack([layer]))
        assert {layout.quantity_layers[row] for row in range(*layout.rows[name].indices(99))} == {name}
    assert layout.rows["b"].stop == len(layout.quantity_layers)


def test_matching_loss_adds_the_norms_of_all_quantities_of_both_targets() -> None:
    batch, whole, classes = _statistics(0), _statistics(1), _statistics(2)
    expected = torch.zeros(())
    for weight, target in ((0.25, whole), (0.75, classes)):
        for left, right in zip(batch.quantities, target.quantities, strict=True):
            expected = expected + weight * torch.linalg.vector_norm(left - right)
    ours = matching_loss(batch, whole, classes, global_weight=0.25, class_weight=0.75)
    torch.testing.assert_close(ours, expected)


def test_distances_have_gradient_zero_at_zero_and_pass_nan_on() -> None:
    targets = torch.tensor([[1.0], [2.0], [5.0], [0.0]])
    matched = torch.tensor([1.0, 2.0, 2.0, 4.0], requires_grad=True)
    lengths = torch.tensor([2, 2])
    distances = matching_distances(matched, targets, lengths)
    assert distances.flatten().tolist() == [0.0, 5.0]
    (gradient,) = torch.autograd.grad(distances.sum(), matched)
    torch.testing.assert_close(gradient, torch.tensor([0.0, 0.0, -0.6, 0.8]))
    with_nan = matching_distances(torch.tensor([float("nan"), 2.0, 2.0, 4.0]), targets, lengths)
    assert with_nan.isnan().flatten().tolist() == [True, False]


@pytest.mark.parametrize(("history", "first"), [(0.8, 2.0), (0.0, 10.0)])
def test_running_estimate_starts_at_zero_or_at_the_batch_and_keeps_the_gradient_whole(
    history: float, first: float
) -> None:
    current = torch.tensor([10.0], requires_grad=True)
    matched, state = updated_estimate(torch.zeros(1), current, history)
    assert matched.item() == pytest.approx(first)
    assert torch.autograd.grad(matched.sum(), current)[0].item() == 1.0
    matched, state = updated_estimate(state, torch.tensor([20.0]), 0.8)
    assert state.item() == pytest.approx(0.8 * first + 0.2 * 20)
    assert matched.item() == pytest.approx(state.item())


def test_running_estimate_without_history_is_the_batch() -> None:
    current = torch.rand(50)
    matched, state = updated_estimate(torch.full((50,), 1e3), current, 0.0)
    assert torch.equal(matched, current)
    assert torch.equal(state, current)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 5), (1, 1), (4, 9)])
@pytest.mark.parametrize("patch_side", [None, 4])
def test_gradient_of_the_matching_loss_by_pixels_is_that_of_finite_differences(
    height: int, width: int, patch_side: int | None
) -> None:
    """float64, through the statistics; several images, since a variance over one 1x1 image is constant."""
    generator = torch.Generator().manual_seed(0)
    shape = (3, 2, height, width)
    images = torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
    whole, classes = (
        layer_statistics(torch.randn(shape, dtype=torch.float64, generator=generator), patch_side)
        for _ in range(2)
    )

    def loss(x: torch.Tensor) -> torch.Tensor:
        return matching_loss(
            layer_statistics(x, patch_side), whole, classes, global_weight=0.3, class_weight=0.7
        )

    assert torch.autograd.gradcheck(loss, images)


def test_the_running_estimate_passes_the_gradient_of_the_matched_value_whole() -> None:
    """Its value is the estimate's, its gradient the batch's: as if history were a constant shift."""
    generator = torch.Generator().manual_seed(1)
    current, previous, target = (torch.randn(6, dtype=torch.float64, generator=generator) for _ in range(3))
    current.requires_grad_()
    matched, state = updated_estimate(previous, current, 0.8)
    lengths, shift = torch.tensor([2, 4]), (state - current).detach()

    def loss(x: torch.Tensor) -> torch.Tensor:
        return matching_distances(x + shift, target.unsqueeze(1), lengths).sum()

    assert torch.autograd.gradcheck(loss, current)
    (ours,) = torch.autograd.grad(matching_distances(matched, target.unsqueeze(1), lengths).sum(), current)
    (expected,) = torch.autograd.grad(loss(current), current)
    torch.testing.assert_close(ours, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize("patch_side", [None, 4])
def test_matching_loss_and_its_gradient_are_zero_at_the_target(patch_side: int | None) -> None:
    images = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    batch = layer_statistics(images, patch_side)
    target = batch.map(torch.Tensor.detach)
    loss = matching_loss(batch, target, target)
    assert loss.item() == 0.0
    (gradient,) = torch.autograd.grad(loss, images)
    assert not gradient.any()
