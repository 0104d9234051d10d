"""How much each pixel counts in the moments of the square tiles of a bilinearly stretched map.

The stretch has two taps an axis. So a tile's mean is a weighted sum of the pixels, and its second moment one
of the products of a pixel with itself and with its right, lower and diagonal neighbours: the stretched map is
never formed. H W pixels, R S rows and columns of tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class AxisWeights:
    """Weights of one axis, [tiles, pixels]: of a pixel, its square, and its product with the next one."""

    value: Tensor
    square: Tensor
    product: Tensor


@dataclass(frozen=True)
class TileWeights:
    """Weights of both axes, of values and of the four products.

    They are the products of a pixel with itself, its right, its lower and its diagonal neighbours.
    """

    rows: Tensor  # [R, H]
    columns: Tensor  # [S, W]
    row_products: Tensor  # [4, R, H]
    column_products: Tensor  # [4, S, W]
    whole: bool  # both sides are multiples of the tile's, so that only squares have weight

    def moments(self, values: Tensor, products: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and second moment [..., R, S] of every tile, of the values [..., H, W] and their products.

        `products` are [1 or 4, ..., H, W]; if `whole`, only the first is read.
        """
        kinds = (1 if self.whole else 4, *[1] * (products.dim() - 3))
        rows, columns = (
            each[: kinds[0]].unflatten(0, kinds) for each in (self.row_products, self.column_products)
        )
        parts = rows @ products[: kinds[0]] @ columns.mT
        # A second moment has each square once and every other product twice.
        return self.rows @ values @ self.columns.mT, 2 * parts.sum(0) - parts[0]

    def spread(self, by_mean_RS: Tensor, by_square_RS: Tensor) -> Tensor:
        """The transpose of `moments`: derivatives by tiles to those by pixels, [5, H, W].

        First what a pixel's value gets; then K0, KR, KV, KX: a pixel's derivative has K0 times itself, KR
        times its right neighbour, and so on.
        """
        used = 1 if self.whole else 4
        products = self.row_products[:used].mT @ by_square_RS @ self.column_products[:used] * 2
        return torch.cat([(self.rows.mT @ by_mean_RS @ self.columns).unsqueeze(0), products])


@cache
def tile_weights(height: int, width: int, side: int, device: torch.device, dtype: torch.dtype) -> TileWeights:
    """Weights of the tiles of an [H, W] map stretched to the next multiples of `side`."""
    vertical, horizontal = (axis_weights(length, side) for length in (height, width))
    whole = not (vertical.product.any() or horizontal.product.any())
    by_row = [vertical.square, vertical.square, vertical.product, vertical.product]
    by_column = [horizontal.square, horizontal.product, horizontal.square, horizontal.product]
    weights = (vertical.value, horizontal.value, torch.stack(by_row), torch.stack(by_column))
    rows, columns, row_products, column_products = (each.to(device, dtype) for each in weights)
    return TileWeights(rows, columns, row_products, column_products, whole)


def axis_weights(length: int, side: int) -> AxisWeights:
    """Weights of one axis of `length` pixels, stretched to the next multiple of `side`. float64."""
    stretched = -(-length // side) * side
    place = ((torch.arange(stretched, dtype=torch.float64) + 0.5) * (length / stretched) - 0.5).clamp(min=0)
    left = place.floor().long()
    right = (left + 1).clamp(max=length - 1)
    taps = torch.zeros(stretched, length, dtype=torch.float64)
    taps.scatter_add_(1, left.unsqueeze(1), (1 - (place - left)).unsqueeze(1))
    taps.scatter_add_(1, right.unsqueeze(1), (place - left).unsqueeze(1))
    tiles = taps.view(-1, side, length)
    product = torch.zeros_like(tiles[:, 0])
    product[:, :-1] = (tiles[..., :-1] * tiles[..., 1:]).mean(1)
    return AxisWeights(tiles.mean(1), tiles.square().mean(1), product)
