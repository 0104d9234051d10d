from __future__ import annotations

from itertools import islice

import pytest
import torch

from edc_ray.core.views.augment import AugmentParams
from edc_ray.core.views.official_views import (
    coordinates_from_views,
    official_relabel_orders,
    views_from_coordinates,
)


@pytest.mark.parametrize("size", [32, 64, 128, 224])
def test_every_coordinate_of_the_official_sizes_survives_the_label_file(size: int) -> None:
    values = torch.arange(size + 1)
    stored = (values.double() / size).float()[:, None].expand(-1, 4)
    views = views_from_coordinates(stored, torch.zeros(size + 1), (size, size))
    assert torch.equal(views.top, values)
    assert torch.equal(views.width, values)
    assert torch.equal(coordinates_from_views(views, (size, size)), stored)


def test_axes_are_crossed_on_images_that_are_not_square() -> None:
    top, left, height, width = torch.tensor([[2], [4], [10], [20]]).unbind()
    view = AugmentParams(top, left, height, width, torch.tensor([True]))
    stored = coordinates_from_views(view, (20, 40))
    assert stored[0].tolist() == pytest.approx([2 / 40, 4 / 20, 10 / 40, 20 / 20])
    again = views_from_coordinates(stored, view.flip, (20, 40))
    assert (int(again.height), int(again.width), bool(again.flip)) == (10, 20, True)


def test_orders_are_every_other_permutation_of_a_generator_of_their_own() -> None:
    before = torch.get_rng_state()
    generator = torch.Generator().manual_seed(3)
    expected = [torch.randperm(5, generator=generator) for _ in range(4)][::2]
    assert all(map(torch.equal, islice(official_relabel_orders(5, 3), 2), expected))
    assert torch.equal(torch.get_rng_state(), before)
