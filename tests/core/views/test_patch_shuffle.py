from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edc_ray.core.seeding import draws
from edc_ray.core.views.patch_shuffle import BandOrders, sample_band_orders
from tests.core.shuffled_bands import shuffle_bands


def pictures(count: int, side: int = 8) -> Tensor:
    """Images in which all pixels differ."""
    return torch.arange(count * side * side).reshape(count, 1, side, side)


def orders_of(count: int, factor: int = 2, seed: int = 0) -> BandOrders:
    return sample_band_orders([draws(seed, "bands", image) for image in range(count)], factor)


@given(side=st.integers(2, 11), factor=st.integers(1, 5), seed=st.integers(0, 99))
def test_no_pixel_is_lost_and_cells_of_a_row_stay_in_one_row(side: int, factor: int, seed: int) -> None:
    images = pictures(3, side)
    shuffled = shuffle_bands(images, orders_of(3, min(factor, side), seed))
    for before, after in zip(images, shuffled, strict=True):
        assert sorted(after.flatten().tolist()) == before.flatten().tolist()
        rows_before = {frozenset(row.tolist()) for row in before[0]}
        assert {frozenset(row.tolist()) for row in after[0]} == rows_before


def test_bands_of_columns_then_of_rows_change_places() -> None:
    image = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]])
    orders = BandOrders(rows=np.array([[1, 0]]), columns=np.array([[1, 0]]))
    expected = [[11, 12, 9, 10], [15, 16, 13, 14], [3, 4, 1, 2], [7, 8, 5, 6]]
    assert shuffle_bands(image[None, None], orders)[0, 0].tolist() == expected


def test_the_last_band_takes_what_a_side_leaves_over() -> None:
    image = torch.arange(5).expand(5, 5)
    orders = BandOrders(rows=np.array([[0, 1]]), columns=np.array([[1, 0]]))
    assert shuffle_bands(image[None, None], orders)[0, 0, 0].tolist() == [2, 3, 4, 0, 1]


def test_a_row_depends_on_its_own_order_alone() -> None:
    images, orders = pictures(6), orders_of(6, 4)
    whole = shuffle_bands(images, orders)
    for rows in ([3], [5, 0], [1, 1, 2]):
        assert torch.equal(shuffle_bands(images[rows], orders[np.array(rows)]), whole[rows])


def test_all_orders_are_drawn_and_equally_often() -> None:
    orders = orders_of(600)
    seen = [(tuple(row), tuple(column)) for row, column in zip(orders.rows, orders.columns, strict=True)]
    counts = [seen.count(one) for one in set(seen)]
    assert len(counts) == 4
    assert min(counts) > 110


def test_orders_of_no_images_are_empty() -> None:
    assert shuffle_bands(pictures(0), orders_of(0)).shape == (0, 1, 8, 8)


def test_more_bands_than_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="9 bands in 8 pixels"):
        shuffle_bands(pictures(2), orders_of(2, 9))
