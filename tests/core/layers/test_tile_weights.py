from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from edc_ray.core.layers.tile_weights import axis_weights, tile_weights

SIZES = [(7, 5, 4), (8, 8, 4), (1, 1, 4), (1, 3, 4), (14, 56, 16), (9, 2, 16)]


def _image(height: int, width: int) -> Tensor:
    return torch.randn(height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _stretched_tiles(image: Tensor, side: int) -> Tensor:
    """[R, S, side * side]."""
    size = [-(-length // side) * side for length in image.shape]
    stretched = F.interpolate(image[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
    return torch.stack([row.unfold(1, side, side).mT.flatten(0, 1).mT for row in stretched.split(side)])


def _products(image: Tensor) -> Tensor:
    products = image.new_zeros(4, *image.shape)
    products[0] = image.square()
    products[1, :, :-1] = image[:, :-1] * image[:, 1:]
    products[2, :-1] = image[:-1] * image[1:]
    products[3, :-1, :-1] = image[:-1, :-1] * image[1:, 1:] + image[:-1, 1:] * image[1:, :-1]
    return products


@pytest.mark.parametrize(("height", "width", "side"), SIZES)
def test_weighted_pixels_have_the_moments_of_the_stretched_tiles(height: int, width: int, side: int) -> None:
    image = _image(height, width)
    tiles = _stretched_tiles(image, side)
    weights = tile_weights(height, width, side, torch.device("cpu"), torch.float64)
    mean, second = weights.moments(image, _products(image))
    torch.testing.assert_close(mean, tiles.mean(-1))
    torch.testing.assert_close(second, tiles.square().mean(-1))


@pytest.mark.parametrize(("height", "width", "side"), SIZES)
def test_spread_is_the_derivative_of_the_moments(height: int, width: int, side: int) -> None:
    image = _image(height, width).requires_grad_()
    weights = tile_weights(height, width, side, torch.device("cpu"), torch.float64)
    mean, second = weights.moments(image, _products(image))
    by_mean, by_square = torch.arange(1.0, mean.numel() + 1).view_as(mean).double(), torch.ones_like(mean)
    (expected,) = torch.autograd.grad((mean * by_mean + second * by_square).sum(), image)
    with torch.no_grad():
        constant, *factors = weights.spread(by_mean, by_square)
        pad = F.pad(image, (1, 1, 1, 1))

        def neighbour(down: int, right: int) -> Tensor:
            return pad[1 + down : 1 + down + height, 1 + right : 1 + right + width]

        def shifted(factor: Tensor, down: int, right: int) -> Tensor:
            return F.pad(factor, (1, 1, 1, 1))[1 + down : 1 + down + height, 1 + right : 1 + right + width]

        found = constant + factors[0] * image
        for factor, (down, right) in zip(factors[1:], [(0, 1), (1, 0), (1, 1)], strict=False):
            found += factor * neighbour(down, right)
            found += shifted(factor, -down, -right) * neighbour(-down, -right)
        if len(factors) == 4:  # the other diagonal
            found += shifted(factors[3], 0, -1) * neighbour(1, -1)
            found += shifted(factors[3], -1, 0) * neighbour(-1, 1)
    torch.testing.assert_close(found, expected)


def test_multiples_of_the_side_weigh_pixels_by_themselves_alone() -> None:
    whole = tile_weights(8, 4, 4, torch.device("cpu"), torch.float64)
    assert whole.whole
    assert whole.rows.tolist() == [[0.25] * 4 + [0.0] * 4, [0.0] * 4 + [0.25] * 4]
    assert not tile_weights(8, 5, 4, torch.device("cpu"), torch.float64).whole


@pytest.mark.parametrize("length", [1, 3, 7, 16, 17])
def test_weights_of_an_axis_sum_to_one_in_every_tile(length: int) -> None:
    axis = axis_weights(length, 16)
    one = torch.ones(len(axis.value), dtype=torch.float64)
    torch.testing.assert_close(axis.value.sum(1), one)
    torch.testing.assert_close((axis.square + 2 * axis.product).sum(1), one)
