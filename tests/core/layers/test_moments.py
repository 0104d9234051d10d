from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from edc_ray.core.layers.moments import LayerStatistics, Moments, joined
from tests.core.one_layer import layer_statistics


def _images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@settings(deadline=None, max_examples=12)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), offset=st.floats(-1000, 1000))
def test_merging_uneven_parts_equals_one_pass_over_all_values(sizes: list[int], offset: float) -> None:
    values = _images(sum(sizes), 3).double() + offset
    parts = [Moments(part.mean(0), part.var(0, correction=0), len(part)) for part in values.split(sizes)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    assert merged.count == len(values)
    torch.testing.assert_close(merged.mean, values.mean(0))
    torch.testing.assert_close(merged.variance, values.var(0, correction=0), rtol=1e-6, atol=1e-9)


@given(
    sizes=st.lists(st.integers(1, 9), min_size=3, max_size=3),
    shape=st.lists(st.integers(1, 4), max_size=3),
    offset=st.floats(-1000, 1000),
)
def test_merging_is_associative_and_commutative_over_any_shape(
    sizes: list[int], shape: list[int], offset: float
) -> None:
    values = _images(sum(sizes), *shape).double() + offset
    a, b, c = (Moments(part.mean(0), part.var(0, correction=0), len(part)) for part in values.split(sizes))
    one, other = a.merge(b).merge(c), c.merge(b).merge(a)
    for merged in (a.merge(b.merge(c)), other):
        assert merged.count == one.count
        torch.testing.assert_close(merged.mean, one.mean, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(merged.variance, one.variance, rtol=1e-8, atol=1e-9)


@settings(deadline=None, max_examples=12)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4), offset=st.floats(-100, 100))
def test_statistics_joined_from_parts_of_a_batch_are_those_of_the_batch(
    sizes: list[int], offset: float
) -> None:
    x = _images(sum(sizes), 3, 8, 12).double() + offset

    def measured(images: torch.Tensor) -> dict[str, LayerStatistics]:
        return {
            "norm": layer_statistics(images[:, :2], None),
            "convolution": layer_statistics(images * torch.linspace(0, 2, 12), 4),
        }

    whole = measured(x)
    found = joined([measured(part) for part in x.split(sizes)], sizes, torch.float64)
    assert list(found) == ["norm", "convolution"]
    for name, statistics in whole.items():
        for one, other in zip(found[name].quantities, statistics.quantities, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_channel_variance_is_exact_for_a_mean_of_a_hundred_deviations() -> None:
    x = _images(8, 3, 16, 16) + 100
    variance = layer_statistics(x, None).channel_variance
    torch.testing.assert_close(variance, x.double().var((0, 2, 3), correction=0).float(), rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("height", "width", "side"), [(8, 8, 4), (7, 5, 4), (1, 1, 4), (1, 3, 4), (2, 9, 16)]
)
def test_patch_moments_equal_those_of_tiles_cut_one_by_one(height: int, width: int, side: int) -> None:
    x = _images(3, 2, height, width)
    size = (-(-height // side) * side, -(-width // side) * side)
    stretched = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
    tiles = [tile for row in stretched.split(side, 2) for tile in row.split(side, 3)]
    _, _, mean, variance = layer_statistics(x, side).quantities
    torch.testing.assert_close(mean, torch.stack([tile.mean() for tile in tiles]))
    torch.testing.assert_close(variance, torch.stack([tile.var(correction=0) for tile in tiles]))


def test_mean_over_labels_counts_repeated_labels() -> None:
    rows = LayerStatistics(torch.tensor([[0.0], [3.0]]), torch.tensor([[1.0], [4.0]]))
    mean = rows.mean_over(torch.tensor([1, 1, 0]))
    assert mean.channel_mean.tolist() == [2.0]
    assert mean.channel_variance.tolist() == [3.0]
    assert mean.patch_mean is None


def test_gradients_of_the_statistics_are_those_of_plain_formulas() -> None:
    x = _images(2, 3, 8, 4).double().requires_grad_()
    ours = layer_statistics(x, 4)
    tiles = x.view(2, 3, 2, 4, 1, 4)
    plain = (
        x.mean((0, 2, 3)),
        x.var((0, 2, 3), correction=0),
        tiles.mean((0, 1, 3, 5)).flatten(),
        tiles.var((0, 1, 3, 5), correction=0).flatten(),
    )
    for left, right in zip(ours.quantities, plain, strict=True):
        torch.testing.assert_close(left, right)
        weights = torch.arange(1.0, len(left) + 1, dtype=torch.float64)
        (gradient,) = torch.autograd.grad((left * weights).sum(), x, retain_graph=True)
        (expected,) = torch.autograd.grad((right * weights).sum(), x, retain_graph=True)
        torch.testing.assert_close(gradient, expected)
